//! Handles for removed and paused paths: their last status, and the time at which the device is
//! free.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use pathpulse_kernel_compat::{Closing, Mono};

use crate::status::{PathStatus, StatusCell};

/// A path that was removed from its monitor.
pub struct RemovedPath(pub(crate) Arc<StatusCell>, pub(crate) Released);

/// Tells when the device of a removed or paused path is free. Free means closed by this process;
/// other processes may still have it open.
pub struct Released(pub(crate) Receiver<Closing>);

impl Released {
    /// Waits until the device is free, but not beyond `deadline`. Returns whether it is free. It is
    /// not while the kernel holds a read of it, nor while its worker does not respond.
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
    /// Tells when the device is free.
    pub fn released(&self) -> &Released {
        &self.1
    }

    /// The last status.
    pub fn status(&self) -> PathStatus {
        self.0.snapshot()
    }
}
