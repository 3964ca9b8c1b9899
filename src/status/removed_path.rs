//! Paths that are given up, and how their last state and the end of their files are learned.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use pathpulse_kernel_compat::{Closing, Mono};

use crate::status::{PathStatus, StatusCell};

/// A path that is watched no longer.
pub struct RemovedPath(pub(crate) Arc<StatusCell>, pub(crate) Released);

/// Tells when the device of a path that was given up is free: closed by this process, whoever else may
/// have it open.
pub struct Released(pub(crate) Receiver<Closing>);

impl Released {
    /// Waits until the device is free, at the longest until `deadline`; says whether it is. It is not
    /// while the kernel has a read of it, and while its worker does not respond.
    pub fn wait(&self, deadline: Instant) -> bool {
        let left = || deadline.saturating_duration_since(Instant::now());
        match self.0.recv_timeout(left()) {
            Ok(closing) => closing.wait(Mono::now() + left()),
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}

impl RemovedPath {
    /// Tells when its device is free.
    pub fn released(&self) -> &Released {
        &self.1
    }

    /// How it was at last.
    pub fn status(&self) -> PathStatus {
        self.0.snapshot()
    }
}
