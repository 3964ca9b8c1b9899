//! Paths whose disk is gone while something still uses it. That is a fault to report, so they stay
//! on the list and wait for the disk to come back.
//!
//! | the path leaves the list when | because |
//! |---|---|
//! | nothing uses the disk any more, as far as the kernel shows | the disk was taken away in order after all |
//! | another path is discovered in its group | the storage came back by another name |
//! | a day has passed | the fault has been reported long enough |
//! | the rules exclude the disk, or `remove` names the path | the path is not wanted |

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pathpulse::display_name;

use super::entry::{Entry, OpenState, Origin};
use super::open_retry::OpenRetry;
use super::task::WatchlistTask;
use crate::api::PathCause;
use crate::daemon::config::Discovery;
use crate::daemon::discovery::{Disk, Holder, Holders, is_wanted};

/// How long a path waits for its disk.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A disk that is gone while something uses it.
pub(super) struct MissingDisk {
    /// The disk as it was.
    disk: Disk,
    /// The group of the path.
    pub(super) group: Option<String>,
    /// What uses the disk.
    holder: Holder,
    since: Instant,
}

impl MissingDisk {
    /// Whether the path still waits for it.
    fn is_expected(&self, rules: &Discovery, holders: &Holders, now: Instant) -> bool {
        now < self.since + LIMIT
            && is_wanted(rules, &self.disk)
            && holders.of(&self.disk.parts).is_some()
    }

    /// Why the path is not watched.
    pub(super) fn message(&self) -> String {
        match &self.holder {
            Holder::Known(holder) => format!("its disk is gone, and {holder} still uses it"),
            Holder::Uncertain(why) => {
                format!(
                    "its disk is gone, and it can't be told whether something still uses it: {why}"
                )
            }
        }
    }
}

impl WatchlistTask {
    /// Updates which discovered paths miss their disk. `wanted` and `disks` are the result of the
    /// current search.
    pub(super) fn update_missing(
        &mut self,
        rules: &Discovery,
        wanted: &BTreeMap<PathBuf, String>,
        disks: &[Disk],
        now: Instant,
    ) {
        let is_gone = |(name, entry): &(&PathBuf, &Entry)| {
            let Origin::Discovered(kernel) = &entry.origin else {
                return false;
            };
            !wanted.contains_key(*name) && !disks.iter().any(|disk| disk.kernel == *kernel)
        };
        let gone = self.entries.iter().filter(is_gone);
        let gone: Vec<PathBuf> = gone.map(|(name, _)| name.clone()).collect();
        if gone.is_empty() {
            return;
        }
        let holders = Holders::now();
        for name in gone {
            let missing = self
                .entries
                .get_mut(&name)
                .and_then(|entry| entry.missing.take());
            match missing {
                Some(disk) => {
                    let expected = disk.is_expected(rules, &holders, now).then_some(disk);
                    if let Some(entry) = self.entries.get_mut(&name) {
                        entry.missing = expected;
                    }
                }
                None => self.wait_for_return(&name, &holders, now),
            }
        }
    }

    /// Makes a path wait for its disk, if something still uses the disk.
    fn wait_for_return(&mut self, name: &Path, holders: &Holders, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let (Origin::Discovered(kernel), OpenState::Open(id)) = (&entry.origin, &entry.stage)
        else {
            return;
        };
        let disk = self.search.disks.iter().find(|disk| disk.kernel == *kernel);
        let used = disk.and_then(|disk| Some((disk.clone(), holders.of(&disk.parts)?)));
        let (Some((disk, holder)), Some(last)) = (used, self.monitor.path(*id)) else {
            return;
        };
        let id = *id;
        let missing = MissingDisk {
            disk,
            group: last.path.group().map(str::to_owned),
            holder,
            since: now,
        };
        let why = missing.message();
        tracing::warn!("{}: {why}; it is waited for", display_name(name));
        entry.stage = OpenState::Unopened(OpenRetry::new(now, SystemTime::now()));
        entry.missing = Some(missing);
        self.remove_from_engine(id, PathCause::DeviceGone, &why);
    }

    /// Called when a path was opened. Its disk is not missing any more. If it is a new discovered
    /// path, it replaces a path of its group whose disk is missing: the one that waits longest.
    pub(super) fn settle_missing(&mut self, name: &Path) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let came_back = mem::take(&mut entry.missing).is_some();
        let (OpenState::Open(id), Origin::Discovered(_), false) =
            (&entry.stage, &entry.origin, came_back)
        else {
            return;
        };
        let Some(path) = self.monitor.path(*id) else {
            return;
        };
        let in_its_group = |missing: &&MissingDisk| {
            missing.group.is_some() && missing.group.as_deref() == path.path.group()
        };
        let candidates = self.entries.iter().filter_map(|(name, entry)| {
            let missing = entry.missing.as_ref().filter(in_its_group)?;
            Some((missing.since, name))
        });
        let replaced = candidates.min().map(|(_, name)| name.clone());
        if let Some(replaced) = replaced {
            tracing::info!(
                "{} takes the place of {}",
                display_name(name),
                display_name(&replaced)
            );
            self.remove(&replaced, PathCause::Replaced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{CommandLine, Configuration};
    use crate::daemon::discovery::disks_in;
    use std::fs;

    #[test]
    fn a_disk_is_waited_for_a_day_and_for_as_long_as_it_is_used_and_wanted() {
        let host = tempfile::tempdir().expect("a folder");
        let sysfs = host.path().join("block");
        for folder in ["sda/holders/dm-0", "dm-0"] {
            fs::create_dir_all(sysfs.join(folder)).expect("folders");
        }
        fs::write(sysfs.join("sda/size"), "8\n").expect("a file");
        fs::create_dir(host.path().join("self")).expect("a folder");
        fs::write(host.path().join("self/mountinfo"), "").expect("a file");
        let disks = disks_in(&sysfs, host.path());
        fs::remove_dir_all(sysfs.join("sda")).expect("removed");
        let holders = || Holders::read(&sysfs, host.path());
        let missing = MissingDisk {
            holder: holders().of(&disks[0].parts).expect("its map is there"),
            disk: disks[0].clone(),
            group: None,
            since: Instant::now(),
        };
        assert!(missing.message().contains("dm-0"), "{}", missing.message());
        let rules = |text: &str| {
            let parsed = Configuration::parse(text, &CommandLine::default()).expect("good");
            parsed.discovery().expect("a section").clone()
        };
        let all = rules("[discovery]");
        let last = missing.since + LIMIT - Duration::from_secs(1);
        assert!(missing.is_expected(&all, &holders(), last));
        assert!(!missing.is_expected(&all, &holders(), missing.since + LIMIT));
        let others = rules("[discovery]\nexclude = ['/dev/sda']");
        assert!(!missing.is_expected(&others, &holders(), last));
        fs::remove_dir_all(sysfs.join("dm-0")).expect("removed");
        assert!(!missing.is_expected(&all, &holders(), last));
    }
}
