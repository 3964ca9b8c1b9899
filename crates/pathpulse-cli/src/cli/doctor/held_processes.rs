//! Dead processes of pathpulse that the kernel holds because devices have not answered their reads.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::api::HeldProcessDocument;
use crate::daemon::config::SOCKET;
use crate::daemon::process::{ProcessId, recorded};

/// The name of these processes in /proc.
const NAME: &str = "pathpulse";

/// A process that the kernel holds.
#[derive(Debug, Serialize)]
pub(super) struct HeldProcess {
    pub(super) pid: i32,
    /// Since when it is known to be dead; `None` if it was not a daemon on the socket.
    pub(super) since: Option<String>,
    /// As `major:minor`, if they are known.
    pub(super) devices: Vec<String>,
}

impl HeldProcess {
    /// All processes that /proc shows.
    pub(super) fn all() -> Vec<HeldProcess> {
        let socket = std::env::var_os("PATHPULSE_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.map_or_else(|| Path::new(SOCKET).to_owned(), PathBuf::from);
        let recorded = recorded(&socket);
        let report = |id: ProcessId| match recorded.iter().find(|held| held.process == id) {
            Some(held) => {
                let HeldProcessDocument { since, devices, .. } = held.document();
                let (pid, since) = (id.pid, Some(since));
                HeldProcess {
                    pid,
                    since,
                    devices,
                }
            }
            None => HeldProcess {
                pid: id.pid,
                since: None,
                devices: Vec::new(),
            },
        };
        ProcessId::all_held(NAME).into_iter().map(report).collect()
    }
}
