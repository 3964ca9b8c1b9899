//! What a supervisor asks of a reader.

use std::path::PathBuf;

use pathpulse_kernel_compat::{Choice, Mono};

use crate::device::OpenedDevice;
use crate::reader::codec::{wire_enum, wire_struct};
use crate::settings::Settings;
use crate::status::NameDecision;

/// A message from a supervisor to a reader. `slot`s are places in the memory that both share, where
/// the reader writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandMsg {
    /// The first message. The reader answers `Ready` or `NotStarted`.
    Hello {
        /// The supervisor's [`VERSION`](super::VERSION).
        version: u32,
        backend: Choice,
        settings: Settings,
    },
    /// Open this name and report what it is; do not read it yet. The reader answers `Opened` or
    /// `OpenFailed`.
    Open { id: u64, name: PathBuf },
    /// Watch what was opened.
    Watch {
        id: u64,
        /// Where the path's status belongs.
        slot: u32,
        group: Option<GroupSlot>,
        settings: Settings,
    },
    /// Close what was opened.
    Discard { id: u64 },
    /// Watch a path that another reader watched until now. Its slot has what is known of it.
    Adopt {
        id: u64,
        name: PathBuf,
        slot: u32,
        group: Option<GroupSlot>,
        settings: Settings,
        device: OpenedDevice,
    },
    /// Watch it no longer. The reader answers `Closed` when its file is closed.
    Remove { id: u64, request: u64 },
    /// Stop checking it. The reader answers `Closed` when its file is closed.
    Pause { id: u64, request: u64 },
    /// Give it these settings.
    Change { id: u64, settings: Settings },
    /// Open it again, and check it.
    Resume { id: u64 },
    /// Check it now, unless a check is in progress or a read is stuck.
    CheckNow { id: u64 },
    /// It has this name from now on.
    Rename { id: u64, name: PathBuf },
    /// The answer to a `LeadsTo`.
    NameAnswer { id: u64, answer: NameDecision },
    /// Answer `Pong` once all messages before this one were handled.
    Ping { request: u64 },
    /// Stop before that deadline. The reader answers `Stopped`, its last message.
    Stop { deadline: Mono },
}

/// A group of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupSlot {
    pub(crate) name: String,
    /// Where its histogram belongs.
    pub(crate) slot: u32,
}

wire_struct!(GroupSlot { name, slot });

wire_enum!(CommandMsg {
    0 => Hello { version, backend, settings },
    1 => Open { id, name },
    2 => Watch { id, slot, group, settings },
    3 => Discard { id },
    4 => Adopt { id, name, slot, group, settings, device },
    5 => Remove { id, request },
    6 => Pause { id, request },
    7 => Change { id, settings },
    8 => Resume { id },
    9 => CheckNow { id },
    10 => Rename { id, name },
    11 => NameAnswer { id, answer },
    12 => Ping { request },
    13 => Stop { deadline },
});
