//! Paths that discovery found: they are on the list as long as their disks exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pathpulse::{Cause, DeviceId, Fault, PathStatus, State, VerdictKind, display_name};

use super::entry::{Entry, OpenState, Origin};
use super::task::WatchlistTask;
use super::{Watchlist, WatchlistMsg};
use crate::api::PathCause;
use crate::daemon::discovery::uevent::{DeviceChanges, UeventListener};
use crate::daemon::discovery::{Disk, disks, wanted};
use crate::daemon::process::spawn;

/// After a uevent, disks are searched once more when udev has made its links.
const UDEV_DELAY: Duration = Duration::from_secs(2);
/// Disks are searched this often without any uevent, in case one was missed.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);

/// The search for disks.
pub(super) struct DiskSearch {
    pub(super) next: Instant,
    /// The kernel's names of disks whose paths a command removed. They are ignored as long as the
    /// disk exists.
    ignored: BTreeSet<String>,
    /// The result of the last search.
    pub(super) disks: Vec<Disk>,
}

impl DiskSearch {
    pub(super) fn new() -> DiskSearch {
        DiskSearch {
            next: Instant::now(),
            ignored: BTreeSet::new(),
            disks: Vec::new(),
        }
    }
}

/// Starts the thread that receives uevents.
pub(super) fn start_uevent_thread(watchlist: &Watchlist) {
    let watchlist = watchlist.clone();
    let opened = UeventListener::open().map_err(|error| error.to_string());
    let started = opened.and_then(|listener| {
        spawn("uevents", move || {
            loop {
                match listener.next() {
                    Ok(changes) if changes == DeviceChanges::default() => {}
                    Ok(changes) => watchlist.send(WatchlistMsg::DevicesChanged(changes)),
                    Err(error) => {
                        tracing::error!(
                            "receiving uevents failed, new disks are found late: {error}"
                        );
                        return;
                    }
                }
            }
        })
    });
    if let Err(why) = started {
        tracing::warn!("uevents can't be received, new disks are found late: {why}");
    }
}

impl WatchlistTask {
    /// Devices appeared, disappeared or changed: retries at once what that may have repaired.
    pub(super) fn devices_changed(&mut self, changes: &DeviceChanges) {
        let now = Instant::now();
        if changes.lost {
            tracing::warn!("uevents were lost, there were too many at once; searching all disks");
        }
        for entry in self.entries.values_mut() {
            match &mut entry.stage {
                OpenState::Unopened(retry) => retry.retry_now(now),
                OpenState::Open(id) => {
                    let status = self.monitor.path(*id);
                    if status.is_some_and(|path| may_be_repaired(&path, changes)) {
                        self.monitor.check_now(*id);
                    }
                }
            }
        }
        self.search(now);
        self.search.next = self.search.next.min(now + UDEV_DELAY);
    }

    /// Searches disks; adds the paths of new ones and removes the paths of those that are gone.
    /// Returns how many paths were removed.
    pub(super) fn search(&mut self, now: Instant) -> usize {
        self.search.next = now + SEARCH_INTERVAL;
        let Some(rules) = self.configuration.discovery().cloned() else {
            return self.remove_discovered(|_, _| false, &PathCause::Reload);
        };
        let disks = disks();
        let exists = |name: &String| disks.iter().any(|disk| disk.kernel == *name);
        self.search.ignored.retain(exists);
        let origin = |name: &Path| self.entries.get(name).map(|entry| &entry.origin);
        let named = |name: &Path| matches!(origin(name), Some(Origin::Configured | Origin::Added));
        let known = |name: &Path| matches!(origin(name), Some(Origin::Discovered(_)));
        let mut wanted = wanted(&rules, &disks, named, known);
        wanted.retain(|_, kernel| !self.search.ignored.contains(kernel));
        self.update_missing(&rules, &wanted, &disks, now);
        let stays =
            |name: &Path, entry: &Entry| wanted.contains_key(name) || entry.missing.is_some();
        let removed = self.remove_discovered(stays, &PathCause::DeviceGone);
        for (name, kernel) in wanted {
            match self.entries.get_mut(&name) {
                // The same name may lead to another disk now.
                Some(entry) => entry.origin = Origin::Discovered(kernel),
                None => {
                    tracing::info!("{}: found", display_name(&name));
                    self.insert(&[name], &Origin::Discovered(kernel), None);
                }
            }
        }
        self.search.disks = disks;
        removed
    }

    /// Removes discovered paths that `stays` does not keep; returns how many.
    fn remove_discovered(
        &mut self,
        stays: impl Fn(&Path, &Entry) -> bool,
        cause: &PathCause,
    ) -> usize {
        let removed = self
            .entries
            .iter()
            .filter(|(name, entry)| entry.is_discovered() && !stays(name, entry));
        let removed: Vec<PathBuf> = removed.map(|(name, _)| name.clone()).collect();
        for name in &removed {
            self.remove(name, cause.clone());
        }
        removed.len()
    }

    /// Ignores the disk of a discovered path from now on.
    pub(super) fn ignore_disk_of(&mut self, name: &Path) {
        if let Some(Origin::Discovered(kernel)) = self.entries.get(name).map(|entry| &entry.origin)
        {
            self.search.ignored.insert(kernel.clone());
        }
    }
}

/// Whether a check of this path may have another result after these changes.
fn may_be_repaired(path: &PathStatus, changes: &DeviceChanges) -> bool {
    let is_gone = path
        .cause
        .errno()
        .is_some_and(|errno| Fault::from(errno) == Fault::DeviceGone);
    let has_changed = match path.path.device() {
        DeviceId::Block { major, minor } => {
            changes.lost || changes.devices.contains(&(major, minor))
        }
        DeviceId::File { .. } => false,
    };
    let is_short = matches!(path.cause, Cause::Verdict(VerdictKind::ShortRead, _));
    path.state == State::Down && (is_gone || is_short || has_changed)
}
