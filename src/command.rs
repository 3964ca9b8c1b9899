//! What a worker is told, and how it is to work.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use pathpulse_kernel_compat::Mono;

use crate::check::Verdict;
use crate::device::Device;
use crate::event::Subscriber;
use crate::health::{Rules, State};
use crate::path::PathId;
use crate::status::StatusCell;

/// What a worker is told.
pub(crate) enum Command {
    /// Watch this path.
    Add(Box<NewPath>),
    /// Read this path through this file, after the backend that had its file broke.
    Attach(PathId, OwnedFd),
    /// Watch it no longer.
    Remove(PathId),
    /// Check it no longer, or again.
    Pause(PathId, bool),
    /// Check it now, if nothing speaks against it.
    CheckNow(PathId),
    /// Say that all commands before this one were obeyed.
    Answer(Sender<()>),
    /// Tell this one what happens.
    Subscribe(Subscriber),
    /// End until then, and say how many reads the kernel still has.
    Stop(Mono, Sender<usize>),
}

/// How a worker does its work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tempo {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) rules: Rules,
}

/// A path on its way to a worker.
pub(crate) struct NewPath {
    pub(crate) id: PathId,
    pub(crate) device: Device,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) once: Option<Once>,
}

/// Makes a path be checked once only, and its verdict be told.
pub(crate) struct Once {
    /// When the verdict has to be there.
    pub(crate) deadline: Mono,
    /// Who waits for it.
    pub(crate) report: Sender<(PathId, Verdict, State)>,
}
