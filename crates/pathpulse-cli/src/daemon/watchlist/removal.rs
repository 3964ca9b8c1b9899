//! Removing paths from the engine. The event of the removal is the last event of a path: it is
//! published after all events that the engine had for it.

use std::collections::HashSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pathpulse::{PathId, RemovedPath};

use super::entry::OpenState;
use super::task::WatchlistTask;
use crate::api::{EventDocument, PathCause};

/// How long the worker, and then the event log, may take. An unresponsive worker delays nothing
/// beyond that.
const LIMIT: Duration = Duration::from_millis(500);

/// A path that the engine has been told to remove.
pub(super) struct Removal {
    last: RemovedPath,
    cause: PathCause,
    detail: String,
}

impl WatchlistTask {
    /// Tells the engine to remove a path.
    pub(super) fn remove_from_engine(&mut self, id: PathId, cause: PathCause, detail: &str) {
        let last = self.monitor.part(id);
        self.removals.extend(last.map(|last| Removal {
            last,
            cause,
            detail: detail.to_owned(),
        }));
    }

    /// Discards the result of an open that no entry needs any more.
    pub(super) fn discard_open(
        &mut self,
        name: &Path,
        open_generation: u64,
        opened: Option<PathId>,
    ) {
        let cause = self.stale_opens.remove(&(name.to_owned(), open_generation));
        if let Some(id) = opened {
            // Its first check may have produced an event already.
            let cause = cause.unwrap_or(PathCause::Reload);
            self.remove_from_engine(id, cause, "left while it was opened");
            self.finish_removals();
        }
        if let Some(OpenState::Unopened(retry)) = self.entries.get_mut(name).map(|e| &mut e.stage) {
            retry.unblock(Instant::now());
        }
    }

    /// Publishes the last events of removed paths. Waits once for the workers of all of them.
    /// Returns the names of paths whose devices are not free yet.
    pub(super) fn finish_removals(&mut self) -> HashSet<PathBuf> {
        let mut held = HashSet::new();
        if self.removals.is_empty() {
            return held;
        }
        let end = Instant::now() + LIMIT;
        self.monitor.settle(LIMIT);
        self.event_log.catch_up(LIMIT);
        let mut removed = HashSet::new();
        for removal in mem::take(&mut self.removals) {
            let is_free = removal.last.released().wait(end);
            let last = removal.last.status();
            let name = last.path.name().to_owned();
            if !is_free {
                held.insert(name.clone());
            }
            removed.insert(name);
            let event = EventDocument::removed(&last, removal.cause, &removal.detail);
            self.event_log.publish(&event);
        }
        // A path that was removed only to be opened again keeps its device.
        removed.retain(|name| !self.entries.contains_key(name));
        self.retry_other_names(&removed, Instant::now());
        held
    }

    /// Waits until the devices of paused paths are free. Returns the names of those that are not.
    pub(super) fn wait_released(&mut self) -> HashSet<PathBuf> {
        let end = Instant::now() + LIMIT;
        let paused = mem::take(&mut self.releasing).into_iter();
        let held = paused.filter(|(_, released)| !released.wait(end));
        held.map(|(name, _)| name).collect()
    }
}
