//! Discovery: which disks exist, which of them the configuration includes, and what uses them; and
//! the kernel's uevents about block devices.
//!
//! sysfs, udev's links, /proc and the netlink socket come in; lists of disks go to the watchlist.
//! Nothing here opens a device. Not here: the rules (`daemon::config`), and what is done about a
//! disk (`daemon::watchlist`).

mod disk_parts;
mod disks;
mod holders;
pub(crate) mod mounts;
pub(crate) mod uevent;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use disks::{Disk, disks_in};
pub(crate) use holders::{Holder, Holders};

use super::config::{Discovery, Names};

/// The kernel names, in `/dev`, of the disks that discovery watches by default, sorted; for
/// commands without a path.
pub(crate) fn usual_disks() -> Vec<PathBuf> {
    usual_of(&disks())
}

fn usual_of(disks: &[Disk]) -> Vec<PathBuf> {
    let rules = Discovery::default();
    let usual = disks.iter().filter(|disk| is_wanted(&rules, disk));
    usual.map(Disk::node).collect()
}

/// The disks of this host.
pub(crate) fn disks() -> Vec<Disk> {
    disks_in(Path::new("/sys/block"), Path::new("/dev"))
}

impl Disk {
    /// All names of the disk.
    pub(crate) fn names(&self) -> impl Iterator<Item = PathBuf> {
        let links = self.by_id.iter().chain(&self.by_path).cloned();
        std::iter::once(self.node()).chain(links)
    }

    fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.kernel)
    }

    /// The name under which the disk is watched.
    fn name(&self, names: Names) -> PathBuf {
        let link = match names {
            Names::Kernel => None,
            Names::ById => self.by_id.first(),
            Names::ByPath => self.by_path.first(),
        };
        link.cloned().unwrap_or_else(|| self.node())
    }
}

/// Whether the rules include this disk.
pub(crate) fn is_wanted(rules: &Discovery, disk: &Disk) -> bool {
    let any = |patterns: &[super::config::Pattern]| {
        let mut names = disk.names();
        names.any(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
    };
    !rules.skips(Path::new(&disk.kernel), disk.is_multipath_path)
        && disk.bytes >= rules.minimum_size
        && !any(&rules.exclude)
        && (any(&rules.include) || (rules.multipath_paths && disk.is_multipath_path))
}

/// The names under which disks are to be watched, with their kernel names. A disk that is `known`
/// by one of its names keeps that name. A disk that is `named` otherwise is left out.
pub(crate) fn wanted(
    rules: &Discovery,
    disks: &[Disk],
    named: impl Fn(&Path) -> bool,
    known: impl Fn(&Path) -> bool,
) -> BTreeMap<PathBuf, String> {
    let all = disks.iter().filter(|disk| is_wanted(rules, disk));
    let new = all.filter(|disk| !disk.names().any(|name| named(&name)));
    let called = new.map(|disk| {
        let before = disk.names().find(|name| known(name));
        let name = before.unwrap_or_else(|| disk.name(rules.names));
        (name, disk.kernel.clone())
    });
    called.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{CommandLine, Configuration};

    fn rules(text: &str) -> Discovery {
        let text = format!("[discovery]\n{text}");
        let parsed = Configuration::parse(&text, &CommandLine::default());
        let configuration = parsed.unwrap_or_else(|problems| panic!("{problems:?}"));
        configuration.discovery().expect("a section").clone()
    }

    fn disk(kernel: &str) -> Disk {
        Disk {
            kernel: kernel.to_owned(),
            bytes: 1 << 30,
            ..Disk::default()
        }
    }

    fn found(rules: &Discovery, disks: &[Disk]) -> Vec<String> {
        let found = wanted(rules, disks, |_| false, |_| false);
        let names = found.keys().map(|name| name.to_string_lossy().into_owned());
        names.collect()
    }

    #[test]
    fn what_is_no_path_to_storage_is_skipped_unless_it_is_asked_for() {
        let all = [
            "sda",
            "nvme0n1",
            "vda",
            "mmcblk0",
            "dasda",
            "pmem0", // storage
            "loop0",
            "zloop0",
            "zram0",
            "ram0",
            "dm-0",
            "md0",
            "md127",
            "bcache0", // made of it
            "rbd0",
            "rnbd0",
            "nbd0",
            "ublkb0",
            "drbd1000",
            "zd16", // held by an open
            "mmcblk0boot0",
            "mmcblk0boot1",
            "mmcblk0rpmb",
            "mtdblock3",
            "ubiblock0_1",
        ];
        let all = all.map(disk);
        let usual = ["dasda", "mmcblk0", "nvme0n1", "pmem0", "sda", "vda"];
        let usual = usual.map(|name| format!("/dev/{name}"));
        assert_eq!(found(&rules(""), &all), usual);
        assert_eq!(found(&rules("skip = []"), &all).len(), all.len());
        let commands = usual_of(&all).len();
        assert_eq!(commands, usual.len(), "as commands without names");
    }

    #[test]
    fn what_is_skipped_by_default_is_not_if_its_kind_is_included_or_it_is_a_path_of_a_map() {
        let mut path = disk("rbd1");
        path.is_multipath_path = true;
        let all = [
            disk("drbd0"),
            disk("drbd1"),
            disk("rbd0"),
            path,
            disk("sda"),
        ];
        let said = |text: &str| found(&rules(text), &all);
        let asked = said("include = ['/dev/sd*', '/dev/drbd0']");
        assert_eq!(asked, ["/dev/drbd0", "/dev/rbd1", "/dev/sda"]);
        assert_eq!(said("include = ['/dev/*']"), ["/dev/rbd1", "/dev/sda"]);
        assert_eq!(said("include = ['/dev/d*']"), ["/dev/rbd1"]);
        // A configured list is always applied.
        let skipped = said("include = ['/dev/drbd*']\nskip = ['drbd*', 'rbd*']");
        assert_eq!(skipped, [""; 0]);
    }

    #[test]
    fn disks_are_included_and_excluded_by_any_of_their_names() {
        let mut fibre = disk("sda");
        fibre.by_path = vec!["/dev/disk/by-path/pci-1-fc-2".into()];
        fibre.by_id = vec!["/dev/disk/by-id/wwn-1".into()];
        let disks = [fibre, disk("sdb")];
        let said = |text: &str| found(&rules(text), &disks);
        assert_eq!(said("include = ['/dev/disk/by-path/*-fc-*']"), ["/dev/sda"]);
        assert_eq!(said("exclude = ['/dev/disk/by-id/wwn-*']"), ["/dev/sdb"]);
        assert_eq!(
            said("names = 'by-id'"),
            ["/dev/disk/by-id/wwn-1", "/dev/sdb"]
        );
        assert_eq!(
            said("names = 'by-path'\ninclude = ['/dev/sda']"),
            ["/dev/disk/by-path/pci-1-fc-2"]
        );
        assert_eq!(said("minimum_size = '2GiB'"), [""; 0]);
    }

    #[test]
    fn paths_of_maps_are_watched_whatever_is_included() {
        let mut path = disk("sdb");
        path.is_multipath_path = true;
        let disks = [disk("sda"), path];
        assert_eq!(found(&rules("include = []"), &disks), ["/dev/sdb"]);
        assert_eq!(
            found(&rules("include = []\nmultipath_legs = false"), &disks),
            [""; 0]
        );
        assert_eq!(
            found(&rules("include = []\nexclude = ['/dev/sdb']"), &disks),
            [""; 0]
        );
    }

    #[test]
    fn a_disk_keeps_its_name_and_is_not_found_when_it_was_named() {
        let mut late = disk("sda");
        late.by_id = vec!["/dev/disk/by-id/wwn-1".into()];
        let rules = rules("names = 'by-id'");
        let known = |name: &Path| name == Path::new("/dev/sda");
        let kept = wanted(&rules, &[late.clone()], |_| false, known);
        assert_eq!(kept.keys().next(), Some(&PathBuf::from("/dev/sda")));
        let named = |name: &Path| name == Path::new("/dev/disk/by-id/wwn-1");
        assert!(wanted(&rules, &[late], named, |_| false).is_empty());
    }
}
