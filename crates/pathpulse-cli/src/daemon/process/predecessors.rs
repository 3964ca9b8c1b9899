//! Daemons of this socket that died and that the kernel still holds, because devices owe them a read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::{Life, ProcessId};

/// The most that are remembered; each is a restart while a device was silent.
const PREDECESSORS_MAX: usize = 64;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldProcess {
    #[serde(flatten)]
    pub(crate) process: ProcessId,
    /// Since when it is known to be dead.
    pub(crate) since: SystemTime,
    /// Devices that owed it a read when it was last able to say so, as `major:minor`.
    pub(crate) devices: Vec<String>,
}

/// One of `held_processes` in `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldProcessDocument {
    pub(crate) pid: i32,
    /// RFC 3339.
    pub(crate) since: String,
    pub(crate) devices: Vec<String>,
}

/// Those whom the kernel held when it was looked last. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Predecessors(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Whom the kernel may hold: one that has said its last word may not have ended yet.
    known: Vec<HeldProcess>,
    held: Vec<HeldProcess>,
}

impl Predecessors {
    /// Those whom a lock file names.
    pub(crate) fn new(mut known: Vec<HeldProcess>) -> Predecessors {
        let surplus = known.len().saturating_sub(PREDECESSORS_MAX);
        known.drain(..surplus);
        let held = Vec::new();
        Predecessors(Arc::new(Mutex::new(Inner { known, held })))
    }

    /// Looks how they are now, and logs what has changed.
    pub(crate) fn look(&self) {
        let known = self.lock().known.clone();
        let lives: Vec<Life> = known.iter().map(|held| held.process.life()).collect();
        let mut inner = self.lock();
        let before: Vec<ProcessId> = inner.held.iter().map(|held| held.process).collect();
        let all = || known.iter().zip(&lives);
        for (held, life) in all() {
            let was_held = before.contains(&held.process);
            match life {
                Life::Held if !was_held => tracing::warn!("{}", held.describe()),
                Life::Gone if was_held => {
                    tracing::info!(
                        "the kernel has let the dead daemon go (pid {})",
                        held.process.pid
                    );
                }
                _ => {}
            }
        }
        let those = |wanted: fn(Life) -> bool| {
            let those = all().filter(|(_, life)| wanted(**life));
            those.map(|(held, _)| held.clone()).collect::<Vec<_>>()
        };
        inner.held = those(|life| life == Life::Held);
        inner.known = those(|life| life != Life::Gone);
    }

    /// Whether there is any to be looked at.
    pub(crate) fn are_known(&self) -> bool {
        !self.lock().known.is_empty()
    }

    /// Whether this is the number of one of them.
    pub(crate) fn include(&self, pid: i32) -> bool {
        self.lock().known.iter().any(|held| held.process.pid == pid)
    }

    /// Whom the kernel may hold, for the next daemon.
    pub(crate) fn known(&self) -> Vec<HeldProcess> {
        self.lock().known.clone()
    }

    /// How many the kernel held at the last look.
    pub(crate) fn count(&self) -> u64 {
        self.lock().held.len() as u64
    }

    /// Whom the kernel held at the last look.
    pub(crate) fn documents(&self) -> Vec<HeldProcessDocument> {
        let inner = self.lock();
        inner.held.iter().map(HeldProcess::document).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldProcess {
    pub(crate) fn document(&self) -> HeldProcessDocument {
        let since = Timestamp::try_from(self.since).unwrap_or_default();
        HeldProcessDocument {
            pid: self.process.pid,
            since: format!("{since:.0}"),
            devices: self.devices.clone(),
        }
    }

    fn describe(&self) -> String {
        let devices = match self.devices.as_slice() {
            [] => "a device".to_owned(),
            devices => devices.join(", "),
        };
        let pid = self.process.pid;
        format!(
            "a daemon before this one (pid {pid}) is dead, and the kernel holds it until {devices} answers; this one has taken over"
        )
    }
}
