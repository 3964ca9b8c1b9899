//! What uses a disk: devices above it, file systems on it alone or with other disks, swap. This
//! distinguishes a disk that fails from a disk that was removed in order, which nothing used any
//! more.
//!
//! | used by | how the kernel shows it |
//! |---|---|
//! | a map, an array, bcache, DRBD | `holders` of the disk and its partitions |
//! | a mounted file system | the number and the devices in `/proc/self/mountinfo`; a folder with the name of the device in `/sys/fs/*`, also if it is mounted in another namespace |
//! | btrfs, bcachefs, a cache of bcache | all members in `/sys/fs/btrfs`, `bcachefs` and `bcache` |
//! | a pool of ZFS | imported pools in `/proc/spl/kstat/zfs`; their members by udev's data about the content of disks |
//! | swap | `/proc/swaps` |
//!
//! If something can't be read or parsed, the result is uncertain, and the disk counts as used. The
//! kernel does not show which processes have a disk open.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::disk_parts::{DiskParts, is_missing, kernel_name, list, number_in};
use super::mounts::{Mount, swap};

/// What uses a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// This uses it.
    Known(String),
    /// Something may use it; why that is not known.
    Uncertain(String),
}

/// What uses devices on this host now.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    sysfs: PathBuf,
    /// What uses devices, by their numbers and by their names.
    by_number: HashMap<Vec<u8>, String>,
    by_name: HashMap<Vec<u8>, String>,
    /// Folders of file system types, each with a folder per mounted device.
    kinds: Vec<PathBuf>,
    /// Pools of ZFS that are imported.
    pools: BTreeSet<Vec<u8>>,
    /// Why this may be incomplete.
    uncertainty: Option<String>,
}

impl Holders {
    pub(crate) fn now() -> Holders {
        Holders::read(Path::new("/sys/block"), Path::new("/proc"))
    }

    /// Reads a host with these folders for `/sys/block` and `/proc`.
    pub(crate) fn read(sysfs: &Path, proc: &Path) -> Holders {
        let mut holders = Holders {
            sysfs: sysfs.to_owned(),
            ..Holders::default()
        };
        let systems = sysfs.join("../fs");
        holders.kinds = holders.list(&systems);
        holders.read_btrfs(&systems.join("btrfs"));
        holders.read_links(&systems.join("bcachefs"), "bcachefs", |link| link);
        holders.read_links(&systems.join("bcache"), "bcache", |link| {
            link.parent().unwrap_or(link)
        });
        for pool in holders.list(&proc.join("spl/kstat/zfs")) {
            if pool.is_dir() {
                let name = pool.file_name().unwrap_or_default().as_bytes();
                holders.pools.insert(udev_label(name));
            }
        }
        holders.read_mounts(&proc.join("self/mountinfo"));
        holders.read_swaps(&proc.join("swaps"));
        holders
    }

    fn read_mounts(&mut self, file: &Path) {
        let mounts = match fs::read(file) {
            Ok(mounts) => mounts,
            Err(error) => return self.note_uncertainty(&file.display(), &error),
        };
        for line in lines(&mounts) {
            let Some(mount) = Mount::parse(line) else {
                let line = line.escape_ascii();
                self.note_uncertainty(&file.display(), &format!("invalid line: {line}"));
                continue;
            };
            let holder = format!("what is mounted on {}", printable(&mount.place));
            self.by_number.insert(mount.number, holder.clone());
            let names = mount.devices.into_iter();
            self.by_name
                .extend(names.map(|name| (name, holder.clone())));
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
            Err(error) => self.note_uncertainty(&file.display(), &error),
        }
    }

    /// All members of all mounted btrfs: `UUID/devices/sda` is a link to the device.
    fn read_btrfs(&mut self, folder: &Path) {
        for uuid in self.list(folder) {
            let holder = holder_of("btrfs", &uuid);
            for device in self.list(&uuid.join("devices")) {
                let number = number_in(&device);
                self.by_number
                    .extend(number.map(|number| (number, holder.clone())));
                let name = device.file_name().unwrap_or_default().as_bytes();
                self.by_name.insert(kernel_name(name), holder.clone());
            }
        }
    }

    /// Members that are links: `UUID/dev-0/block` of bcachefs, `UUID/cache0` and `UUID/bdev0` of
    /// bcache. The links of bcache lead to a folder in that of the device.
    fn read_links(&mut self, folder: &Path, kind: &str, device: fn(&Path) -> &Path) {
        for uuid in self.list(folder) {
            let holder = holder_of(kind, &uuid);
            for member in self.list(&uuid) {
                let target =
                    fs::read_link(&member).or_else(|_| fs::read_link(member.join("block")));
                let Ok(target) = target else {
                    continue;
                };
                let name = device(&target).file_name().unwrap_or_default().as_bytes();
                self.by_name.insert(kernel_name(name), holder.clone());
            }
        }
    }

    fn list(&mut self, folder: &Path) -> Vec<PathBuf> {
        list(folder).unwrap_or_else(|why| {
            self.uncertainty = Some(why);
            Vec::new()
        })
    }

    fn note_uncertainty(&mut self, file: &dyn Display, why: &dyn Display) {
        self.uncertainty = Some(format!("{file}: {why}"));
    }

    /// What uses a disk, even if the disk does not exist any more; the first holder that is known.
    pub(crate) fn of(&self, parts: &DiskParts) -> Option<Holder> {
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
            Some(holder_of("bcachefs", member.parent().unwrap_or(member)))
        };
        let pool = || {
            let pool = parts.pools.intersection(&self.pools).next()?;
            Some(format!("the ZFS pool {}", printable(pool)))
        };
        let holder = holder
            .or_else(number)
            .or_else(name)
            .or_else(|| self.mounted_for_others(parts))
            .or_else(member)
            .or_else(pool);
        holder
            .map(Holder::Known)
            .or_else(|| self.why_uncertain(parts).map(Holder::Uncertain))
    }

    /// The kernel has a folder for each file system on a disk, in whichever namespace it is
    /// mounted.
    fn mounted_for_others(&self, parts: &DiskParts) -> Option<String> {
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

    /// Why a disk may be used although no holder is known.
    fn why_uncertain(&self, parts: &DiskParts) -> Option<String> {
        let pool = || {
            // A member of an unknown pool may belong to any pool.
            let unknown = parts.pools.contains(&b""[..]);
            let pool = self.pools.first().filter(|_| unknown)?;
            let pool = printable(pool);
            Some(format!(
                "it may be in a ZFS pool such as {pool}; udev has no data about it"
            ))
        };
        let why = parts.uncertainty.as_ref().or(self.uncertainty.as_ref());
        why.cloned().or_else(pool)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

/// A name as in udev's labels: without blanks.
fn udev_label(name: &[u8]) -> Vec<u8> {
    let kept = name
        .iter()
        .map(|byte| if *byte == b' ' { b'_' } else { *byte });
    kept.collect()
}

fn holder_of(kind: &str, folder: &Path) -> String {
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
