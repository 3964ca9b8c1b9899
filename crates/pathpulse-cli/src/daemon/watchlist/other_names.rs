//! Several names of one device on the list: each device is watched by one of its names.
//!
//! | which name is watched | |
//! |---|---|
//! | a name that is configured or was added | before one that was discovered |
//! | of names that are opened together | the one that entered the list first |
//! | otherwise | the one that has the device open |
//!
//! The other names wait; one of them takes over when the watched name is removed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use pathpulse::{OpenProblem, PathId, display_name};

use super::entry::{Entry, OpenState};
use super::open_retry::OpenRetry;
use super::task::WatchlistTask;
use crate::api::PathCause;

impl WatchlistTask {
    /// The watched name of the device of a name on the list; the name itself if there is no other.
    pub(super) fn watched_name(&self, name: &Path) -> PathBuf {
        let first = self.entries.get(name).and_then(Entry::is_same_as);
        let is_watched = |first: &&Path| {
            let first = self.entries.get(*first);
            first.is_some_and(|first| matches!(first.stage, OpenState::Open(_)))
        };
        first.filter(is_watched).unwrap_or(name).to_owned()
    }

    /// A name leads to a device that is watched as `first`. Returns the result for the name as if
    /// it had been opened; `None` if it has to be opened again.
    pub(super) fn same_device(
        &mut self,
        name: &Path,
        first: PathBuf,
        now: Instant,
    ) -> Option<Result<PathId, OpenProblem>> {
        let (Some(new), Some(old)) = (self.entries.get(name), self.entries.get(&first)) else {
            return Some(Err(OpenProblem::Twice { first }));
        };
        let OpenState::Open(id) = old.stage else {
            return Some(Err(OpenProblem::Twice { first }));
        };
        if !new.takes_precedence(old) {
            return Some(Err(OpenProblem::Twice { first }));
        }
        let is_same_group = new.spec.group == old.spec.group;
        let mut retry = OpenRetry::new(now, SystemTime::now());
        let problem = OpenProblem::Twice {
            first: name.to_owned(),
        };
        old.log_same(&first, &problem);
        retry.failed(problem, now);
        if let Some(old) = self.entries.get_mut(&first) {
            old.stage = OpenState::Unopened(retry);
        }
        if is_same_group && self.monitor.rename(id, name) {
            return Some(Ok(id));
        }
        // The engine can't move a path to another group, so it is opened again.
        self.remove_from_engine(id, PathCause::Replaced, "is watched by another name");
        if let Some(new) = self.entries.get_mut(name) {
            new.stage = OpenState::Unopened(OpenRetry::new(now, SystemTime::now()));
        }
        None
    }

    /// Retries the other names of removed paths now.
    pub(super) fn retry_other_names(&mut self, removed: &HashSet<PathBuf>, now: Instant) {
        for entry in self.entries.values_mut() {
            let is_other = entry
                .is_same_as()
                .is_some_and(|first| removed.contains(first));
            if let (true, OpenState::Unopened(retry)) = (is_other, &mut entry.stage) {
                retry.retry_now(now);
            }
        }
    }

    /// For each watched name another name of its device, if the list has one that was not
    /// discovered.
    pub(super) fn other_names(&self) -> HashMap<PathBuf, PathBuf> {
        let others = self.entries.iter();
        let others = others.filter(|(_, entry)| !entry.is_discovered());
        let others = others.filter_map(|(name, entry)| Some((entry.is_same_as()?, name)));
        others
            .map(|(first, name)| (first.to_owned(), name.clone()))
            .collect()
    }
}

impl Entry {
    /// Logs that this is another name of a watched device. Discovered disks have several names, so
    /// that is no news for them.
    pub(super) fn log_same(&self, name: &Path, problem: &OpenProblem) {
        if !self.is_discovered() {
            tracing::info!("{}: {problem}", display_name(name));
        }
    }

    /// Whether this name replaces the other one, which is watched.
    fn takes_precedence(&self, other: &Entry) -> bool {
        match (self.is_discovered(), other.is_discovered()) {
            (false, true) => true,
            (true, false) => false,
            _ => self.open_generation == other.open_generation && self.order < other.order,
        }
    }
}
