//! Processes of pathpulse that died, and that the kernel holds because devices owe them a read.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::daemon::HeldProcessDocument;
use crate::daemon::config::SOCKET;
use crate::daemon::process::ProcessId;
use crate::daemon::process::lock::recorded;

/// The kernel's name of them.
const NAME: &str = "pathpulse";

/// One of them.
#[derive(Debug, Serialize)]
pub(super) struct HeldReport {
    pub(super) pid: i32,
    /// Since when it is known to be dead; `None` of one that was no daemon of the usual socket.
    pub(super) since: Option<String>,
    /// As `major:minor`, where they are known.
    pub(super) devices: Vec<String>,
}

impl HeldReport {
    /// All that /proc shows.
    pub(super) fn all() -> Vec<HeldReport> {
        let socket = std::env::var_os("PATHPULSE_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.map_or_else(|| Path::new(SOCKET).to_owned(), PathBuf::from);
        let recorded = recorded(&socket);
        let report = |id: ProcessId| match recorded.iter().find(|held| held.process == id) {
            Some(held) => {
                let HeldProcessDocument { since, devices, .. } = held.document();
                let (pid, since) = (id.pid, Some(since));
                HeldReport {
                    pid,
                    since,
                    devices,
                }
            }
            None => HeldReport {
                pid: id.pid,
                since: None,
                devices: Vec::new(),
            },
        };
        ProcessId::all_held(NAME).into_iter().map(report).collect()
    }
}
