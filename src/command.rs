//! What a worker is told.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use pathpulse_kernel_compat::Mono;

use crate::device::Device;
use crate::event::Subscriber;
use crate::group::GroupCell;
use crate::health::State;
use crate::path::PathId;
use crate::settings::Settings;
use crate::status::StatusCell;
use crate::verdict::Verdict;

/// What a worker is told.
pub(crate) enum Command {
    /// Watch this path.
    Add(Box<NewPath>),
    /// A path was opened anew, or could not be.
    Reopened(PathId, Option<Box<Device>>),
    /// Watch it no longer.
    Remove(PathId),
    /// Watch it in this way.
    Change(PathId, Box<Settings>),
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

/// A path on its way to a worker.
pub(crate) struct NewPath {
    pub(crate) id: PathId,
    pub(crate) device: Device,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) settings: Settings,
    /// Its group, or what counts for those that are in none.
    pub(crate) group: Arc<GroupCell>,
    pub(crate) once: Option<Box<Once>>,
}

/// Makes a path be checked once only, and its verdict be told.
pub(crate) struct Once {
    /// When the verdict has to be there.
    pub(crate) deadline: Mono,
    /// Who waits for it.
    pub(crate) report: Sender<(PathId, Verdict, State)>,
}
