//! What uses a disk: what is made of it, a file system over it or over it and others, swap. So a disk that
//! fails can be told from one that was taken away in order: that one was of use to nobody any more.
//!
//! | used by | as the kernel tells it |
//! |---|---|
//! | a map, an array, bcache, DRBD | `holders` of the disk and its partitions |
//! | a mounted file system | the number and the devices in `/proc/self/mountinfo`; a folder of the device's name in `/sys/fs/*`, also where it is mounted for others only |
//! | btrfs, bcachefs, a cache of bcache | all members below `/sys/fs/btrfs`, `bcachefs` and `bcache` |
//! | a pool of ZFS | that it is imported, by `/proc/spl/kstat/zfs`; its members by udev's word on what is on a disk |
//! | swap | `/proc/swaps` |
//!
//! What can't be read or understood is in doubt, and in doubt a disk is used. Whoever merely has a disk open,
//! the kernel doesn't tell.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::mounts::{Mount, swap};

/// What a disk may be used as, as it was when the disk was there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The kernel's names of the disk and its partitions, links to them below `/dev`, and their numbers.
    names: BTreeSet<Vec<u8>>,
    numbers: BTreeSet<Vec<u8>>,
    /// The kernel's names of what is made of them.
    holders: BTreeSet<OsString>,
    /// Their folders as members of a file system, which has them until it is told otherwise.
    members: BTreeSet<PathBuf>,
    /// Pools of ZFS that they are in; of one without a name its name is not known.
    pools: BTreeSet<Vec<u8>>,
    /// What of this could not be learned.
    doubt: Option<String>,
}

impl Parts {
    /// Of the disk with this folder in `/sys/block`, or another such folder; `dev` is as `/dev`.
    pub(super) fn of(disk: &Path, dev: &Path) -> Parts {
        let mut parts = Parts::default();
        let Some(name) = disk.file_name() else {
            return parts;
        };
        let described = dev.join("../run/udev/data");
        parts.add(disk, name.as_bytes(), &described);
        for folder in parts.list(disk) {
            let part = folder.file_name().unwrap_or_default().as_bytes();
            if part.starts_with(name.as_bytes()) && folder.join("partition").exists() {
                parts.add(&folder, part, &described);
            }
        }
        if let Some(block) = disk.parent() {
            parts.find_members(&block.join("../fs/bcachefs"));
        }
        if !disk.exists() {
            // It went in the middle of this.
            parts.doubt = Some("it went while it was looked at".to_owned());
        }
        parts
    }

    fn add(&mut self, folder: &Path, name: &[u8], described: &Path) {
        self.names.insert(kernel_name(name));
        let holders = self.list(&folder.join("holders"));
        let names = holders.iter().filter_map(|holder| holder.file_name());
        self.holders.extend(names.map(OsString::from));
        let Some(number) = number_in(folder) else {
            return;
        };
        // udev's word on the device; see sd-device(3) and the rules 60-persistent-storage.
        let name = [b"b", &*number].concat();
        let file = described.join(OsString::from_vec(name));
        match fs::read(file) {
            Ok(words) => self.pools.extend(pool_in(&words)),
            // No word: it may be in any pool.
            Err(_) => self.pools.extend([Vec::new()]),
        }
        self.numbers.insert(number);
    }

    /// Learns names that lead to this disk, or to a part of it that the kernel calls so.
    pub(super) fn add_links(&mut self, links: impl Fn(&str) -> Vec<PathBuf>, dev: &Path) {
        let kernels = self
            .names
            .iter()
            .filter_map(|name| std::str::from_utf8(name).ok());
        let links: Vec<PathBuf> = kernels.flat_map(links).collect();
        let below = links.iter().filter_map(|link| link.strip_prefix(dev).ok());
        self.names
            .extend(below.map(|link| link.as_os_str().as_bytes().to_vec()));
    }

    /// Finds the folders that bcachefs has for these parts: `UUID/dev-N`, with a link to the device.
    fn find_members(&mut self, folder: &Path) {
        for uuid in self.list(folder) {
            for member in self.list(&uuid) {
                let link = member.join("block");
                let target = fs::read_link(&link).ok();
                let name = target.as_ref().and_then(|target| target.file_name());
                let is_named =
                    name.is_some_and(|name| self.names.contains(&kernel_name(name.as_bytes())));
                let number = number_in(&link);
                if is_named || number.is_some_and(|number| self.numbers.contains(&number)) {
                    self.members.insert(member);
                }
            }
        }
    }

    fn list(&mut self, folder: &Path) -> Vec<PathBuf> {
        list(folder).unwrap_or_else(|doubt| {
            self.doubt = Some(doubt);
            Vec::new()
        })
    }
}

/// The name that the kernel has for a device whose folder in sysfs has this one: with slashes.
fn kernel_name(name: &[u8]) -> Vec<u8> {
    let slashes = name
        .iter()
        .map(|byte| if *byte == b'!' { b'/' } else { *byte });
    slashes.collect()
}

/// The number of the device with this folder in sysfs.
fn number_in(folder: &Path) -> Option<Vec<u8>> {
    let text = fs::read(folder.join("dev")).ok()?;
    Some(text.trim_ascii().to_vec())
}

/// The pool of ZFS that udev found on a device: its name, none if it has none.
fn pool_in(words: &[u8]) -> Option<Vec<u8>> {
    let mut lines = words.split(|byte| *byte == b'\n');
    let is_member = lines.clone().any(|line| line == b"E:ID_FS_TYPE=zfs_member");
    let label = || lines.find_map(|line| line.strip_prefix(b"E:ID_FS_LABEL="));
    is_member
        .then(label)
        .map(|label| label.unwrap_or_default().to_vec())
}

/// What is in a folder, none if it is not there.
fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        let entries = entries.map(|entry| entry.map(|entry| entry.path()));
        entries.collect::<io::Result<Vec<PathBuf>>>()
    });
    match entries {
        Ok(entries) => Ok(entries),
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

/// Not there, or something of another kind.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// What uses a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// This.
    Known(String),
    /// Perhaps something: that could not be learned, and why.
    Doubt(String),
}

/// What is in use on this host now.
#[derive(Debug, Default)]
pub(crate) struct Users {
    sysfs: PathBuf,
    /// What uses devices, by their numbers and by their names.
    by_number: HashMap<Vec<u8>, String>,
    by_name: HashMap<Vec<u8>, String>,
    /// Folders of the kinds of file systems, each with a folder for each device that is mounted.
    kinds: Vec<PathBuf>,
    /// Pools of ZFS that are imported.
    pools: BTreeSet<Vec<u8>>,
    /// What of this could not be learned.
    doubt: Option<String>,
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
        let systems = sysfs.join("../fs");
        users.kinds = users.list(&systems);
        users.read_btrfs(&systems.join("btrfs"));
        users.read_links(&systems.join("bcachefs"), "bcachefs", |link| link);
        users.read_links(&systems.join("bcache"), "bcache", |link| {
            link.parent().unwrap_or(link)
        });
        for pool in users.list(&proc.join("spl/kstat/zfs")) {
            if pool.is_dir() {
                let name = pool.file_name().unwrap_or_default().as_bytes();
                users.pools.insert(udev_label(name));
            }
        }
        users.read_mounts(&proc.join("self/mountinfo"));
        users.read_swaps(&proc.join("swaps"));
        users
    }

    fn read_mounts(&mut self, file: &Path) {
        let mounts = match fs::read(file) {
            Ok(mounts) => mounts,
            Err(error) => return self.doubt(&file.display(), &error),
        };
        for line in lines(&mounts) {
            let Some(mount) = Mount::parse(line) else {
                let line = line.escape_ascii();
                self.doubt(
                    &file.display(),
                    &format!("a line that is not understood: {line}"),
                );
                continue;
            };
            let user = format!("what is mounted on {}", printable(&mount.place));
            self.by_number.insert(mount.number, user.clone());
            let names = mount.devices.into_iter();
            self.by_name.extend(names.map(|name| (name, user.clone())));
        }
    }

    fn read_swaps(&mut self, file: &Path) {
        match fs::read(file) {
            Ok(swaps) => {
                let names = lines(&swaps).filter_map(swap);
                self.by_name
                    .extend(names.map(|name| (name, "swap".to_owned())));
            }
            // A kernel without swap.
            Err(error) if is_missing(&error) => {}
            Err(error) => self.doubt(&file.display(), &error),
        }
    }

    /// All members of all btrfs that are mounted: `UUID/devices/sda` is a link to the device.
    fn read_btrfs(&mut self, folder: &Path) {
        for uuid in self.list(folder) {
            let user = user_of("btrfs", &uuid);
            for device in self.list(&uuid.join("devices")) {
                let number = number_in(&device);
                self.by_number
                    .extend(number.map(|number| (number, user.clone())));
                let name = device.file_name().unwrap_or_default().as_bytes();
                self.by_name.insert(kernel_name(name), user.clone());
            }
        }
    }

    /// Members that links tell of: `UUID/dev-0/block` of bcachefs, `UUID/cache0` and `UUID/bdev0` of bcache, of
    /// which those lead to a folder within the device's.
    fn read_links(&mut self, folder: &Path, kind: &str, device: fn(&Path) -> &Path) {
        for uuid in self.list(folder) {
            let user = user_of(kind, &uuid);
            for member in self.list(&uuid) {
                let target =
                    fs::read_link(&member).or_else(|_| fs::read_link(member.join("block")));
                let Ok(target) = target else {
                    continue;
                };
                let name = device(&target).file_name().unwrap_or_default().as_bytes();
                self.by_name.insert(kernel_name(name), user.clone());
            }
        }
    }

    fn list(&mut self, folder: &Path) -> Vec<PathBuf> {
        list(folder).unwrap_or_else(|doubt| {
            self.doubt = Some(doubt);
            Vec::new()
        })
    }

    fn doubt(&mut self, file: &dyn Display, why: &dyn Display) {
        self.doubt = Some(format!("{file}: {why}"));
    }

    /// What uses a disk still, be the disk there or not; the first that is known.
    pub(crate) fn of(&self, parts: &Parts) -> Option<User> {
        let holder = parts.holders.iter();
        let holder = holder.map(|holder| self.sysfs.join(holder));
        let mut holder = holder.filter(|folder| folder.exists());
        let holder = holder.next().map(|folder| name_of(&folder));
        let number = || {
            parts
                .numbers
                .iter()
                .find_map(|number| self.by_number.get(number))
                .cloned()
        };
        let name = || {
            parts
                .names
                .iter()
                .find_map(|name| self.by_name.get(name))
                .cloned()
        };
        let member = || {
            let mut members = parts.members.iter();
            let member = members.find(|member| member.exists())?;
            Some(user_of("bcachefs", member.parent().unwrap_or(member)))
        };
        let pool = || {
            let pool = parts.pools.intersection(&self.pools).next()?;
            Some(format!("the ZFS pool {}", printable(pool)))
        };
        let user = holder
            .or_else(number)
            .or_else(name)
            .or_else(|| self.mounted_for_others(parts))
            .or_else(member)
            .or_else(pool);
        user.map(User::Known)
            .or_else(|| self.in_doubt(parts).map(User::Doubt))
    }

    /// The kernel has a folder for each file system on a disk, wherever it is mounted.
    fn mounted_for_others(&self, parts: &Parts) -> Option<String> {
        let folder_of = |kind: &Path, name: &[u8]| {
            let name = name
                .iter()
                .map(|byte| if *byte == b'/' { b'!' } else { *byte });
            kind.join(OsString::from_vec(name.collect()))
        };
        let mut kinds = self.kinds.iter();
        let kind = kinds.find(|kind| {
            let mut names = parts.names.iter();
            names.any(|name| folder_of(kind, name).exists())
        })?;
        Some(format!("a file system ({})", name_of(kind)))
    }

    /// Why a disk may be used although nothing is known to use it.
    fn in_doubt(&self, parts: &Parts) -> Option<String> {
        let pool = || {
            // Of a part without a name for its pool any may be the one.
            let unknown = parts.pools.contains(&b""[..]);
            let pool = self.pools.first().filter(|_| unknown)?;
            let pool = printable(pool);
            Some(format!(
                "it may be in a ZFS pool such as {pool}, which udev doesn't tell"
            ))
        };
        let doubt = parts.doubt.as_ref().or(self.doubt.as_ref());
        doubt.cloned().or_else(pool)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

/// A name as udev has it in labels: without blanks.
fn udev_label(name: &[u8]) -> Vec<u8> {
    let kept = name
        .iter()
        .map(|byte| if *byte == b' ' { b'_' } else { *byte });
    kept.collect()
}

fn user_of(kind: &str, folder: &Path) -> String {
    format!("{kind} {}", name_of(folder))
}

fn name_of(folder: &Path) -> String {
    printable(folder.file_name().unwrap_or_default().as_bytes())
}

/// For messages.
fn printable(name: &[u8]) -> String {
    let text = std::str::from_utf8(name);
    text.map_or_else(|_| name.escape_ascii().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
