//! What a worker is told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use pathpulse_kernel_compat::{Closing, Mono};

use crate::device::{Device, DeviceId};
use crate::health::{State, Verdict};
use crate::settings::Settings;
use crate::status::{GroupCell, PathId, StatusCell, Subscriber};

/// What a worker is told.
pub(crate) enum WorkerMsg {
    /// Watch this path.
    Add(Box<NewPath>),
    /// The name of a path was looked up again.
    Reopened(PathId, Reopened),
    /// Watch it no longer, and say when its file is closed.
    Remove(PathId, Sender<Closing>),
    /// Watch it in this way.
    Change(PathId, Box<Settings>),
    /// Check it no longer, give its file up, and say when that is closed.
    Pause(PathId, Sender<Closing>),
    /// Open and check it again.
    Resume(PathId),
    /// Check it now, if nothing speaks against it.
    CheckNow(PathId),
    /// Say that all commands before this one were handled.
    Answer(Sender<()>),
    /// Tell this one what happens.
    Subscribe(Subscriber),
    /// End until then, and say how many reads the kernel still has.
    Stop(Mono, Sender<usize>),
}

/// What the name of a path was found to lead to.
pub(crate) enum Reopened {
    /// Another object than before, to be read from now on.
    Device(Box<Device>),
    /// What is read already.
    Same,
    /// Nothing that opens.
    Nothing,
    /// Something that is not to be read: what there is to say of it, if that is news.
    Elsewhere(Option<String>),
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

/// Checks of paths that are made once.
pub(crate) struct OnceChecks {
    /// When the verdicts have to be there.
    pub(crate) deadline: Mono,
    /// Who waits for them.
    pub(crate) report: Sender<(PathId, Verdict, State)>,
    /// What the names lead to, those included that do not open.
    pub(crate) devices: Arc<Mutex<HashMap<PathBuf, DeviceId>>>,
}

impl OnceChecks {
    /// The check of one path.
    pub(crate) fn one(&self) -> Once {
        Once {
            deadline: self.deadline,
            report: self.report.clone(),
        }
    }
}
