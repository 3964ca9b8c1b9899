//! Names on the list that lead to a device which is watched by another one: each device is watched once.
//!
//! | which name stands for the device | |
//! |---|---|
//! | one that is named or was added | rather than one that was found |
//! | of those that are opened together | the one that entered the list first |
//! | else | the one that has it already |
//!
//! The others wait: when the first leaves, one of them takes its place.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use pathpulse::{OpenProblem, PathId, display_name};

use super::open_retry::Waiting;
use super::task::{Entry, Keeper, Origin, Stage};

impl Keeper {
    /// The name of the path that a name on the list stands for.
    pub(super) fn watched_name(&self, name: &Path) -> PathBuf {
        let first = self.entries.get(name).and_then(Entry::is_same_as);
        let is_watched = |first: &&Path| {
            let first = self.entries.get(*first);
            first.is_some_and(|first| matches!(first.stage, Stage::Watched(_)))
        };
        first.filter(is_watched).unwrap_or(name).to_owned()
    }

    /// A name leads to a device that is watched as `first`. What became of it, as if it had been opened;
    /// `None` if it is to be opened again.
    pub(super) fn same_device(
        &mut self,
        name: &Path,
        first: PathBuf,
        now: Instant,
    ) -> Option<Result<PathId, OpenProblem>> {
        let (Some(new), Some(old)) = (self.entries.get(name), self.entries.get(&first)) else {
            return Some(Err(OpenProblem::Twice { first }));
        };
        let Stage::Watched(id) = old.stage else {
            return Some(Err(OpenProblem::Twice { first }));
        };
        if !new.goes_before(old) {
            return Some(Err(OpenProblem::Twice { first }));
        }
        let is_same_group = new.spec.group == old.spec.group;
        let mut waiting = Waiting::new(now, SystemTime::now());
        let problem = OpenProblem::Twice {
            first: name.to_owned(),
        };
        old.log_same(&first, &problem);
        waiting.failed(problem, now);
        if let Some(old) = self.entries.get_mut(&first) {
            old.stage = Stage::Waiting(waiting);
        }
        if is_same_group && self.monitor.rename(id, name) {
            return Some(Ok(id));
        }
        // To the engine a path of another group is another path.
        self.part(id, "replaced", "is watched by another name");
        if let Some(new) = self.entries.get_mut(name) {
            new.stage = Stage::Waiting(Waiting::new(now, SystemTime::now()));
        }
        None
    }

    /// Has the other names of paths that leave be opened now.
    pub(super) fn hurry_other_names(&mut self, left: &HashSet<PathBuf>, now: Instant) {
        let mut free = Vec::new();
        for (name, entry) in &self.entries {
            if entry.is_same_as().is_some_and(|first| left.contains(first)) {
                free.push(name.clone());
            }
        }
        for name in free {
            if let Some(Stage::Waiting(waiting)) = self.entries.get_mut(&name).map(|e| &mut e.stage)
            {
                waiting.hurry(now);
            }
        }
    }

    /// The other names on the list of the devices that are watched as these.
    pub(super) fn other_names(&self) -> HashMap<PathBuf, PathBuf> {
        let others = self.entries.iter();
        let others = others.filter(|(_, entry)| !matches!(entry.origin, Origin::Found(_)));
        let others = others.filter_map(|(name, entry)| Some((entry.is_same_as()?, name)));
        others
            .map(|(first, name)| (first.to_owned(), name.clone()))
            .collect()
    }
}

impl Entry {
    /// The path that is watched and leads to the same device.
    pub(super) fn is_same_as(&self) -> Option<&Path> {
        match &self.stage {
            Stage::Waiting(waiting) => waiting.is_same_as(),
            Stage::Watched(_) => None,
        }
    }

    /// Tells the log that this name is another one of a device, whichever of its names opened first; of
    /// disks that were found, which have several, there is nothing to say.
    pub(super) fn log_same(&self, name: &Path, problem: &OpenProblem) {
        if !matches!(self.origin, Origin::Found(_)) {
            tracing::info!("{}: {problem}", display_name(name));
        }
    }

    /// Whether this one is to stand for a device that the other one is watched for.
    fn goes_before(&self, other: &Entry) -> bool {
        let is_found = |entry: &Entry| matches!(entry.origin, Origin::Found(_));
        match (is_found(self), is_found(other)) {
            (false, true) => true,
            (true, false) => false,
            _ => self.ticket == other.ticket && self.order < other.order,
        }
    }
}
