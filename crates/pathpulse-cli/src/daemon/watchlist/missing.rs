//! Paths whose disk is gone while something still uses it: a fault that somebody looks for, so they stay on
//! the list, and wait for the disk to come back.
//!
//! | the path leaves the list when | since then |
//! |---|---|
//! | nothing uses the disk any more, as far as the kernel tells | it was taken away in order after all |
//! | another path is found in its group | the storage came back by another name |
//! | a day has passed | whoever was to see it has |
//! | the rules want no such disk, or `remove` says so | nobody wants it |

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pathpulse::display_name;

use super::open_retry::Waiting;
use super::task::{Entry, Keeper, Origin, Stage};
use crate::daemon::config::Discovery;
use crate::daemon::discovery::{Disk, User, Users, is_wanted};

/// How long a disk is waited for.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A disk that is gone, of a path that waits for it.
pub(super) struct Lost {
    /// As it was when it was there.
    disk: Disk,
    /// The group that the path was in.
    pub(super) group: Option<String>,
    /// What uses it still.
    user: User,
    since: Instant,
}

impl Lost {
    /// Whether it is to be waited for any longer.
    fn lasts(&self, rules: &Discovery, users: &Users, now: Instant) -> bool {
        now < self.since + LIMIT
            && is_wanted(rules, &self.disk)
            && users.of(&self.disk.parts).is_some()
    }

    /// Why the path is not watched.
    pub(super) fn message(&self) -> String {
        match &self.user {
            User::Known(user) => format!("its disk is gone, and {user} still uses it"),
            User::Doubt(why) => {
                format!(
                    "its disk is gone, and it can't be told whether something still uses it: {why}"
                )
            }
        }
    }
}

impl Keeper {
    /// Has those of the paths found wait whose disk is none of these any more, but is used still; and those
    /// no longer for which there is no reason to.
    pub(super) fn miss(
        &mut self,
        rules: &Discovery,
        wanted: &BTreeMap<PathBuf, String>,
        disks: &[Disk],
        now: Instant,
    ) {
        let is_gone = |(name, entry): &(&PathBuf, &Entry)| {
            let Origin::Found(kernel) = &entry.origin else {
                return false;
            };
            !wanted.contains_key(*name) && !disks.iter().any(|disk| disk.kernel == *kernel)
        };
        let gone = self.entries.iter().filter(is_gone);
        let gone: Vec<PathBuf> = gone.map(|(name, _)| name.clone()).collect();
        if gone.is_empty() {
            return;
        }
        let users = Users::now();
        for name in gone {
            let lost = self
                .entries
                .get_mut(&name)
                .and_then(|entry| entry.lost.take());
            match lost {
                Some(lost) => {
                    let still = lost.lasts(rules, &users, now).then_some(lost);
                    if let Some(entry) = self.entries.get_mut(&name) {
                        entry.lost = still;
                    }
                }
                None => self.await_return(&name, &users, now),
            }
        }
    }

    /// Has a path wait for its disk, if that is used still.
    fn await_return(&mut self, name: &Path, users: &Users, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let (Origin::Found(kernel), Stage::Watched(id)) = (&entry.origin, &entry.stage) else {
            return;
        };
        let disk = self.search.disks.iter().find(|disk| disk.kernel == *kernel);
        let used = disk.and_then(|disk| Some((disk.clone(), users.of(&disk.parts)?)));
        let (Some((disk, user)), Some(last)) = (used, self.monitor.path(*id)) else {
            return;
        };
        let id = *id;
        let lost = Lost {
            disk,
            group: last.path.group().map(str::to_owned),
            user,
            since: now,
        };
        let why = lost.message();
        tracing::warn!("{}: {why}; it is waited for", display_name(name));
        entry.stage = Stage::Waiting(Waiting::new(now, SystemTime::now()));
        entry.lost = Some(lost);
        self.part(id, "device_gone", &why);
    }

    /// A path was opened: says no longer that its disk is gone, or if it never was, has it take the place of
    /// one that is gone, and was in the same group.
    pub(super) fn make_up(&mut self, name: &Path) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let came_back = mem::take(&mut entry.lost).is_some();
        let (Stage::Watched(id), Origin::Found(_), false) =
            (&entry.stage, &entry.origin, came_back)
        else {
            return;
        };
        let Some(path) = self.monitor.path(*id) else {
            return;
        };
        let in_its_group =
            |lost: &&Lost| lost.group.is_some() && lost.group.as_deref() == path.path.group();
        let places = self.entries.iter().filter_map(|(name, entry)| {
            let lost = entry.lost.as_ref().filter(in_its_group)?;
            Some((lost.since, name))
        });
        let place = places.min().map(|(_, name)| name.clone());
        if let Some(place) = place {
            tracing::info!(
                "{} takes the place of {}",
                display_name(name),
                display_name(&place)
            );
            self.leave(&place, "replaced");
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
        let users = || Users::read(&sysfs, host.path());
        let lost = Lost {
            user: users().of(&disks[0].parts).expect("its map is there"),
            disk: disks[0].clone(),
            group: None,
            since: Instant::now(),
        };
        assert!(lost.message().contains("dm-0"), "{}", lost.message());
        let rules = |text: &str| {
            let parsed = Configuration::parse(text, &CommandLine::default()).expect("good");
            parsed.discovery().expect("a section").clone()
        };
        let all = rules("[discovery]");
        let last = lost.since + LIMIT - Duration::from_secs(1);
        assert!(lost.lasts(&all, &users(), last));
        assert!(!lost.lasts(&all, &users(), lost.since + LIMIT));
        let others = rules("[discovery]\nexclude = ['/dev/sda']");
        assert!(!lost.lasts(&others, &users(), last));
        fs::remove_dir_all(sysfs.join("dm-0")).expect("removed");
        assert!(!lost.lasts(&all, &users(), last));
    }
}
