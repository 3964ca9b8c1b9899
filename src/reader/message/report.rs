//! What a reader answers and reports to its supervisor.

use std::time::SystemTime;

use crate::config::{BackendInfo, StartError};
use crate::device::{DeviceInfo, OpenProblem, OpenedDevice};
use crate::health::{Cause, State};
use crate::reader::codec::{wire_enum, wire_struct};

/// A message from a reader to its supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReportMsg {
    /// The reader has started.
    Ready {
        /// The reader's [`VERSION`](super::VERSION).
        version: u32,
        backend: BackendInfo,
    },
    /// The reader can't start, and ends.
    NotStarted(StartError),
    /// Its backend broke, and it took this one.
    BackendChanged(BackendInfo),
    /// The name was opened, and leads to this.
    Opened { id: u64, device: OpenedDevice },
    /// The name can't be opened or watched.
    OpenFailed { id: u64, problem: OpenProblem },
    /// The name of a watched path leads to another object, which was opened. The reader waits for
    /// a `NameAnswer` before it reads that.
    LeadsTo { id: u64, device: OpenedDevice },
    /// The name of a watched path leads to the device that is read.
    NameSame { id: u64 },
    /// What the kernel knows about a watched path has changed.
    Details { id: u64, details: DeviceInfo },
    /// Something happened to a watched path; see [`Event`](crate::Event).
    Event {
        id: u64,
        time: SystemTime,
        from: State,
        to: State,
        cause: Cause,
        detail: String,
    },
    /// So many events could not be sent.
    Lost { events: u64 },
    /// The file of a removed or paused path is closed.
    Closed { request: u64 },
    /// The answer to a `Ping`.
    Pong { request: u64 },
    /// The reader has stopped, and ends.
    Stopped {
        /// Reads that the kernel still holds.
        held: u64,
    },
}

wire_struct!(OpenedDevice {
    identity,
    storage,
    details,
    stacked,
    may_block
});

wire_enum!(ReportMsg {
    0 => Ready { version, backend },
    1 => NotStarted(error),
    2 => BackendChanged(backend),
    3 => Opened { id, device },
    4 => OpenFailed { id, problem },
    5 => LeadsTo { id, device },
    6 => NameSame { id },
    7 => Details { id, details },
    8 => Event { id, time, from, to, cause, detail },
    9 => Lost { events },
    10 => Closed { request },
    11 => Pong { request },
    12 => Stopped { held },
});
