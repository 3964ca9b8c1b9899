//! What uses a disk: a map or an array that is made of it, a file system on it, swap. So a disk that fails can
//! be told from one that was taken away in order: that one was of use to nobody any more.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// What a disk may be used as, as it was when the disk was there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The kernel's names of the disk and its partitions, and their numbers.
    names: BTreeSet<String>,
    numbers: BTreeSet<String>,
    /// The kernel's names of what is made of them.
    holders: BTreeSet<String>,
}

impl Parts {
    /// Of the disk with this folder in sysfs.
    pub(super) fn of(disk: &Path) -> Parts {
        let mut parts = Parts::default();
        let Some(name) = disk.file_name().and_then(|name| name.to_str()) else {
            return parts;
        };
        parts.add(disk, name);
        for (part, folder) in entries(disk) {
            if part.starts_with(name) && folder.join("partition").exists() {
                parts.add(&folder, &part);
            }
        }
        parts
    }

    fn add(&mut self, folder: &Path, name: &str) {
        // A name with a slash has an exclamation mark for it in sysfs.
        self.names.insert(name.replace('!', "/"));
        let number = fs::read_to_string(folder.join("dev"));
        self.numbers
            .extend(number.map(|text| text.trim().to_owned()));
        let holders = entries(&folder.join("holders"));
        self.holders.extend(holders.map(|(name, _)| name));
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().ok();
    entries.filter_map(move |entry| Some((name(&entry)?, entry.path())))
}

/// What is in use on this host now.
#[derive(Debug, Default)]
pub(crate) struct Users {
    sysfs: PathBuf,
    /// Where file systems are mounted, by the number and the name of what they are on; and swap by its name.
    by_number: HashMap<String, String>,
    by_name: HashMap<String, String>,
}

impl Users {
    pub(crate) fn now() -> Users {
        Users::read(Path::new("/sys/block"), Path::new("/proc"))
    }

    /// Of a host with these for `/sys/block` and `/proc`.
    pub(crate) fn read(sysfs: &Path, proc: &Path) -> Users {
        let mut users = Users {
            sysfs: sysfs.to_owned(),
            ..Users::default()
        };
        // What has no file there is not told by this kernel, or not to us.
        let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
        for line in mounts.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, _, number, _, place, ..] = words[..] else {
                continue;
            };
            let at = || format!("what is mounted on {place}");
            users.by_number.insert(number.to_owned(), at());
            // Some file systems have a number of their own. The source comes after a hyphen and a type.
            let source = words.iter().position(|word| *word == "-");
            let source = source.and_then(|hyphen| words.get(hyphen + 2));
            if let Some(name) = source.and_then(|source| source.strip_prefix("/dev/")) {
                users.by_name.insert(name.to_owned(), at());
            }
        }
        let swaps = fs::read_to_string(proc.join("swaps")).unwrap_or_default();
        for line in swaps.lines() {
            let name = line.split_ascii_whitespace().next();
            if let Some(name) = name.and_then(|name| name.strip_prefix("/dev/")) {
                users.by_name.insert(name.to_owned(), "swap".to_owned());
            }
        }
        users
    }

    /// What uses a disk still, be the disk there or not; the first that is known.
    pub(crate) fn of(&self, parts: &Parts) -> Option<String> {
        let mut holders = parts.holders.iter();
        let holder = holders.find(|holder| self.sysfs.join(holder).exists());
        let numbers = parts.numbers.iter();
        let names = parts.names.iter();
        holder
            .cloned()
            .or_else(|| {
                numbers
                    .filter_map(|number| self.by_number.get(number))
                    .next()
                    .cloned()
            })
            .or_else(|| {
                names
                    .filter_map(|name| self.by_name.get(name))
                    .next()
                    .cloned()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn what_is_made_of_a_disk_or_mounted_from_it_uses_it_for_as_long_as_it_is_there() {
        let sysfs = files(&[
            ("sda/dev", "8:0\n"),
            ("sda/sda1/dev", "8:1\n"),
            ("sda/sda1/partition", "1\n"),
            ("sda/sda1/holders/md0/x", ""),
            ("sda/holders/dm-0/x", ""),
            ("sda/sdaling/dev", "8:77\n"),
            ("sda/queue/x", ""),
            ("dm-0/x", ""),
            ("md0/x", ""),
        ]);
        let parts = Parts::of(&sysfs.path().join("sda"));
        let is = |set: &BTreeSet<String>, expected: &[&str]| {
            assert!(set.iter().eq(expected), "{set:?}");
        };
        is(&parts.names, &["sda", "sda1"]);
        is(&parts.numbers, &["8:0", "8:1"]);
        is(&parts.holders, &["dm-0", "md0"]);
        let user = |proc: &[(&str, &str)]| {
            let proc = files(proc);
            Users::read(sysfs.path(), proc.path()).of(&parts)
        };
        // The disk itself may be gone.
        fs::remove_dir_all(sysfs.path().join("sda")).expect("removed");
        assert_eq!(user(&[]).as_deref(), Some("dm-0"));
        fs::remove_dir_all(sysfs.path().join("dm-0")).expect("removed");
        assert_eq!(user(&[]).as_deref(), Some("md0"));
        fs::remove_dir_all(sysfs.path().join("md0")).expect("removed");
        assert_eq!(user(&[]), None);
        for (mounted, used) in [
            ("36 35 8:1 / /data rw shared:1 - ext4 /dev/root rw\n", true),
            ("36 35 0:42 / /data rw - btrfs /dev/sda1 rw\n", true),
            ("36 35 8:16 / /data rw master:1 - xfs /dev/sdb rw\n", false),
            (
                "36 35 0:21 /dev/sda /data rw - tmpfs none rw\nnonsense\n",
                false,
            ),
        ] {
            let user = user(&[("self/mountinfo", mounted)]);
            let expected = used.then_some("what is mounted on /data");
            assert_eq!(user.as_deref(), expected, "{mounted}");
        }
        let swaps = "Filename Type Size Used Priority\n/dev/sda1 partition 1 0 -2\n";
        assert_eq!(user(&[("swaps", swaps)]).as_deref(), Some("swap"));
        let swaps = "/dev/sda12 partition 1 0 -2\n";
        assert_eq!(user(&[("swaps", swaps)]), None);
    }
}
