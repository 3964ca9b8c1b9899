//! What is to be watched without being named: which disks there are, and which of them the configuration
//! wants; and the kernel's word that some came or went.

mod disks;
pub(crate) mod uevent;
mod uses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use disks::{Disk, block_devices, disks_in};
pub(crate) use uses::Users;

use super::config::{Discovery, Names};

/// The disks of this host.
pub(crate) fn disks() -> Vec<Disk> {
    disks_in(Path::new("/sys/block"), Path::new("/dev"))
}

impl Disk {
    /// All its names.
    pub(crate) fn names(&self) -> impl Iterator<Item = PathBuf> {
        let links = self.by_id.iter().chain(&self.by_path).cloned();
        std::iter::once(self.node()).chain(links)
    }

    fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.kernel)
    }

    /// What it is to be called.
    fn name(&self, names: Names) -> PathBuf {
        let link = match names {
            Names::Kernel => None,
            Names::ById => self.by_id.first(),
            Names::ByPath => self.by_path.first(),
        };
        link.cloned().unwrap_or_else(|| self.node())
    }
}

/// Whether the configuration wants this disk.
pub(crate) fn is_wanted(rules: &Discovery, disk: &Disk) -> bool {
    let any = |patterns: &[super::config::Pattern]| {
        let mut names = disk.names();
        names.any(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
    };
    let skipped = rules.skip.iter().any(|skip| skip.matches(&disk.kernel));
    !skipped
        && disk.bytes >= rules.minimum_size
        && !any(&rules.exclude)
        && (any(&rules.include) || (rules.multipath_legs && disk.is_leg))
}

/// The names under which disks are to be watched, each with the kernel's name. What is watched by one of
/// its names already keeps that one, and what was `named` by somebody is not found a second time.
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
        let all = ["sda", "nvme0n1", "loop0", "zram0", "ram0", "dm-0", "md0"].map(disk);
        let usual = found(&rules(""), &all);
        assert_eq!(usual, ["/dev/nvme0n1", "/dev/sda"]);
        assert_eq!(found(&rules("skip = []"), &all).len(), 7);
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
    fn legs_of_maps_are_watched_whatever_is_included() {
        let mut leg = disk("sdb");
        leg.is_leg = true;
        let disks = [disk("sda"), leg];
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
