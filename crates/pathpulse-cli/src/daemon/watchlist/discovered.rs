//! Paths that nobody named: they are on the list for as long as their disks are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pathpulse::{Cause, DeviceId, Fault, PathStatus, State, display_name};

use super::task::{Entry, Keeper, Origin, Stage};
use super::{Order, Roster};
use crate::daemon::discovery::uevent::{Changes, Listener};
use crate::daemon::discovery::{Disk, disks, wanted};

/// udev makes its links after the kernel has spoken: by then they are there.
const LINKS: Duration = Duration::from_secs(2);
/// Disks are looked for anyway; far more rarely than the kernel would say so.
const ANYWAY: Duration = Duration::from_secs(60);

/// When disks are looked for.
pub(super) struct Search {
    pub(super) next: Instant,
    /// The kernel's names of those that a command removed: not found again while they are there.
    removed: BTreeSet<String>,
    /// As they were at the last look.
    pub(super) disks: Vec<Disk>,
}

impl Search {
    pub(super) fn new() -> Search {
        Search {
            next: Instant::now(),
            removed: BTreeSet::new(),
            disks: Vec::new(),
        }
    }
}

/// Has a thread hear the kernel, which says when to look again.
pub(super) fn listen(roster: &Roster) {
    let roster = roster.clone();
    let heard = Listener::open().map_err(|error| error.to_string());
    let started = heard.and_then(|listener| {
        crate::daemon::spawn("uevents", move || {
            loop {
                match listener.next() {
                    Ok(changes) if changes == Changes::default() => {}
                    Ok(changes) => roster.tell(Order::Changed(changes)),
                    Err(error) => {
                        tracing::error!("the kernel is heard no longer: {error}");
                        return;
                    }
                }
            }
        })
    });
    if let Err(why) = started {
        tracing::warn!("disks that come are found late, the kernel can't be heard: {why}");
    }
}

impl Keeper {
    /// Devices came, went or changed: tries at once what that may help.
    pub(super) fn changed(&mut self, changes: &Changes) {
        let now = Instant::now();
        if changes.lost {
            tracing::warn!("the kernel said more than could be heard; looking at all disks anew");
        }
        for entry in self.entries.values_mut() {
            match &mut entry.stage {
                Stage::Waiting(waiting) => waiting.hurry(now),
                Stage::Watched(id) => {
                    let status = self.monitor.path(*id);
                    if status.is_some_and(|path| may_be_back(&path, changes)) {
                        self.monitor.check_now(*id);
                    }
                }
            }
        }
        self.search(now);
        self.search.next = self.search.next.min(now + LINKS);
    }

    /// Puts on the list what is there, and takes off what is not.
    pub(super) fn search(&mut self, now: Instant) -> usize {
        self.search.next = now + ANYWAY;
        let Some(rules) = self.configuration.discovery().cloned() else {
            return self.lose(|_, _| false, "reload");
        };
        let disks = disks();
        let there = |name: &String| disks.iter().any(|disk| disk.kernel == *name);
        self.search.removed.retain(there);
        let origin = |name: &Path| self.entries.get(name).map(|entry| &entry.origin);
        let named = |name: &Path| matches!(origin(name), Some(Origin::Named | Origin::Told));
        let known = |name: &Path| matches!(origin(name), Some(Origin::Found(_)));
        let mut wanted = wanted(&rules, &disks, named, known);
        wanted.retain(|_, kernel| !self.search.removed.contains(kernel));
        self.miss(&rules, &wanted, &disks, now);
        let stays = |name: &Path, entry: &Entry| wanted.contains_key(name) || entry.lost.is_some();
        let lost = self.lose(stays, "device_gone");
        for (name, kernel) in wanted {
            match self.entries.get_mut(&name) {
                // The same name may lead to another disk.
                Some(entry) => entry.origin = Origin::Found(kernel),
                None => {
                    tracing::info!("{}: found", display_name(&name));
                    self.enter(&[name], &Origin::Found(kernel), None);
                }
            }
        }
        self.search.disks = disks;
        lost
    }

    /// Takes those off the list that were found, but are not to be kept; returns how many.
    fn lose(&mut self, keep: impl Fn(&Path, &Entry) -> bool, cause: &'static str) -> usize {
        let lost = self
            .entries
            .iter()
            .filter(|(name, entry)| matches!(entry.origin, Origin::Found(_)) && !keep(name, entry));
        let lost: Vec<PathBuf> = lost.map(|(name, _)| name.clone()).collect();
        for name in &lost {
            self.leave(name, cause);
        }
        lost.len()
    }

    /// Remembers that a path that was found is not wanted.
    pub(super) fn forgo(&mut self, name: &Path) {
        if let Some(Origin::Found(kernel)) = self.entries.get(name).map(|entry| &entry.origin) {
            self.search.removed.insert(kernel.clone());
        }
    }
}

/// Whether a check of this path would now say something else than before.
fn may_be_back(path: &PathStatus, changes: &Changes) -> bool {
    let is_gone = path
        .cause
        .errno()
        .is_some_and(|errno| Fault::from(errno) == Fault::DeviceGone);
    let is_named = match path.path.device() {
        DeviceId::Block { major, minor } => {
            changes.lost || changes.devices.contains(&(major, minor))
        }
        DeviceId::File { .. } => false,
    };
    let is_short = matches!(
        path.cause,
        Cause::Verdict(pathpulse::VerdictKind::ShortRead, _)
    );
    path.state == State::Down && (is_gone || is_short || is_named)
}
