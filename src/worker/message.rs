//! The messages to a worker.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use pathpulse_kernel_compat::{Closing, Mono};

use crate::device::{Device, DeviceId};
use crate::health::{State, Verdict};
use crate::settings::Settings;
use crate::status::{GroupCell, PathId, StatusCell, Subscriber};

/// A message to a worker.
pub(crate) enum WorkerMsg {
    /// Watch this path.
    Add(Box<NewPath>),
    /// Watch a path that another reader watched until now.
    Adopt(Box<AdoptedPath>),
    /// The name of a path was looked up again.
    Reopened(PathId, Reopened),
    /// Watch it no longer, and report when its file is closed.
    Remove(PathId, Sender<Closing>),
    /// Give it these settings.
    Change(PathId, Box<Settings>),
    /// Stop checking it, close its file, and report when that is closed.
    Pause(PathId, Sender<Closing>),
    /// Open it again, and check it.
    Resume(PathId),
    /// Check it now, unless a check is in progress or a read is stuck.
    CheckNow(PathId),
    /// Reply once all messages before this one were handled.
    Answer(Sender<()>),
    /// Send events to this subscriber.
    Subscribe(Subscriber),
    /// Stop before that deadline, and report how many reads the kernel still holds.
    Stop(Mono, Sender<usize>),
}

/// What the name of a path leads to.
pub(crate) enum Reopened {
    /// Another object than the one that is read; it was opened.
    Device(Box<Device>),
    /// The object that is read already.
    Same,
    /// Nothing that could be opened.
    Nothing,
    /// Something that must not be read, with the reason unless that was reported already.
    Elsewhere(Option<String>),
}

/// A path on its way to a worker.
pub(crate) struct NewPath {
    pub(crate) id: PathId,
    pub(crate) device: Device,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) settings: Settings,
    /// Its group, or the counters shared by all paths without a group.
    pub(crate) group: Arc<GroupCell>,
    pub(crate) once: Option<Box<Once>>,
}

/// A path that continues where another reader ended. Its cell has what is known of it. It has no
/// file: its name is looked up, and opened, as that of any path without one.
pub(crate) struct AdoptedPath {
    pub(crate) id: PathId,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) settings: Settings,
    /// Its group, or the counters shared by all paths without a group.
    pub(crate) group: Arc<GroupCell>,
}

/// A path is checked once only, and its verdict is reported.
pub(crate) struct Once {
    /// When the verdict is due.
    pub(crate) deadline: Mono,
    /// Receives it.
    pub(crate) report: Sender<(PathId, Verdict, State)>,
}

/// One check of each of several paths.
pub(crate) struct OnceChecks {
    /// When the verdicts are due.
    pub(crate) deadline: Mono,
    /// Receives them.
    pub(crate) report: Sender<(PathId, Verdict, State)>,
    /// The devices that the names lead to, also of names that can't be opened.
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
