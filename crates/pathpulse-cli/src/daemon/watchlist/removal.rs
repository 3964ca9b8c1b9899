//! The last word about paths that leave: after all that the engine had to say of them.

use std::collections::HashSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pathpulse::{Departed, PathId};

use super::task::{Keeper, Stage};
use crate::api::document::EventDocument;

/// How long a worker, and then the journal, may take to get there; a worker that does not get on keeps nobody.
const LIMIT: Duration = Duration::from_millis(500);

/// A path that the engine watches no longer.
pub(super) struct Leaving {
    last: Departed,
    cause: &'static str,
    detail: String,
}

impl Keeper {
    /// Has the engine watch a path no longer.
    pub(super) fn part(&mut self, id: PathId, cause: &'static str, detail: &str) {
        let last = self.monitor.part(id);
        self.leaving.extend(last.map(|last| Leaving {
            last,
            cause,
            detail: detail.to_owned(),
        }));
    }

    /// A path was opened for an entry that has left the list, or is to be opened otherwise by now.
    pub(super) fn turn_away(&mut self, name: &Path, ticket: u64, opened: Option<PathId>) {
        let cause = self.strays.remove(&(name.to_owned(), ticket));
        if let Some(id) = opened {
            // Its first check may have told that it is up.
            self.part(id, cause.unwrap_or("reload"), "left while it was opened");
            self.say_farewell();
        }
        if let Some(Stage::Waiting(waiting)) = self.entries.get_mut(name).map(|e| &mut e.stage) {
            waiting.let_go(Instant::now());
        }
    }

    /// Tells that those have left who did, all together: their workers are waited for once. Returns the
    /// names of those whose devices are not free yet.
    pub(super) fn say_farewell(&mut self) -> HashSet<PathBuf> {
        let mut held = HashSet::new();
        if self.leaving.is_empty() {
            return held;
        }
        let end = Instant::now() + LIMIT;
        self.monitor.settle(LIMIT);
        self.journal.catch_up(LIMIT);
        let mut left = HashSet::new();
        for path in mem::take(&mut self.leaving) {
            let is_free = path.last.released().wait(end);
            let last = path.last.status();
            let name = last.path.name().to_owned();
            if !is_free {
                held.insert(name.clone());
            }
            left.insert(name);
            self.journal
                .tell(&EventDocument::removed(&last, path.cause, &path.detail));
        }
        // What left to be opened anew keeps its place.
        left.retain(|name| !self.entries.contains_key(name));
        self.hurry_other_names(&left, Instant::now());
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
