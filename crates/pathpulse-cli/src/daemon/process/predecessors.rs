//! Dead daemons of this socket that the kernel still holds because a read of theirs is unanswered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::{Life, ProcessId};
use crate::api::HeldProcessDocument;

/// The number that is remembered; each is a restart while a device was silent.
const PREDECESSORS_MAX: usize = 64;

/// A dead daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldProcess {
    #[serde(flatten)]
    pub(crate) process: ProcessId,
    /// When a later daemon found it dead.
    pub(crate) since: SystemTime,
    /// The devices with an unanswered read of it, by its last note, as `major:minor`.
    pub(crate) devices: Vec<String>,
}

/// The dead daemons that the kernel held at the last update. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Predecessors(Arc<Mutex<PredecessorsState>>);

#[derive(Debug, Default)]
struct PredecessorsState {
    /// Daemons that the kernel may hold: a daemon that has stopped may not have ended yet.
    known: Vec<HeldProcess>,
    /// Daemons that the kernel holds.
    held: Vec<HeldProcess>,
}

impl Predecessors {
    /// The daemons in a lock file.
    pub(crate) fn new(mut known: Vec<HeldProcess>) -> Predecessors {
        let surplus = known.len().saturating_sub(PREDECESSORS_MAX);
        known.drain(..surplus);
        let held = Vec::new();
        Predecessors(Arc::new(Mutex::new(PredecessorsState { known, held })))
    }

    /// Finds out which are held now, and logs changes.
    pub(crate) fn update(&self) {
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
        let select = |wanted: fn(Life) -> bool| {
            let selected = all().filter(|(_, life)| wanted(**life));
            selected.map(|(held, _)| held.clone()).collect::<Vec<_>>()
        };
        inner.held = select(|life| life == Life::Held);
        inner.known = select(|life| life != Life::Gone);
    }

    /// Whether there are any that the kernel may hold.
    pub(crate) fn are_known(&self) -> bool {
        !self.lock().known.is_empty()
    }

    /// Whether one of them has this process number.
    pub(crate) fn include(&self, pid: i32) -> bool {
        self.lock().known.iter().any(|held| held.process.pid == pid)
    }

    /// The daemons that the kernel may hold, for the lock file.
    pub(crate) fn known(&self) -> Vec<HeldProcess> {
        self.lock().known.clone()
    }

    /// How many the kernel held at the last update.
    pub(crate) fn count(&self) -> u64 {
        self.lock().held.len() as u64
    }

    /// The daemons that the kernel held at the last update.
    pub(crate) fn documents(&self) -> Vec<HeldProcessDocument> {
        let inner = self.lock();
        inner.held.iter().map(HeldProcess::document).collect()
    }

    fn lock(&self) -> MutexGuard<'_, PredecessorsState> {
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
