//! What may use a disk, recorded while the disk exists: its names, numbers, memberships and the
//! devices above it. `holders.rs` compares that with what is in use later.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What may use a disk, recorded while the disk exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskParts {
    /// Kernel names of the disk and its partitions, links to them in `/dev`, and their numbers.
    pub(super) names: BTreeSet<Vec<u8>>,
    pub(super) numbers: BTreeSet<Vec<u8>>,
    /// Kernel names of the devices above them.
    pub(super) holders: BTreeSet<OsString>,
    /// Their folders as members of a file system; the file system keeps them while it is mounted.
    pub(super) members: BTreeSet<PathBuf>,
    /// Pools of ZFS that they belong to; an empty name is an unknown pool.
    pub(super) pools: BTreeSet<Vec<u8>>,
    /// Why this may be incomplete.
    pub(super) uncertainty: Option<String>,
}

impl DiskParts {
    /// Records the disk with this folder in `/sys/block` or a similar folder; `dev` is like `/dev`.
    pub(super) fn of(disk: &Path, dev: &Path) -> DiskParts {
        let mut parts = DiskParts::default();
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
            // The disk disappeared meanwhile.
            parts.uncertainty = Some("it disappeared while it was examined".to_owned());
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
        // udev's data about the device; see sd-device(3) and the rules 60-persistent-storage.
        let name = [b"b", &*number].concat();
        let file = described.join(OsString::from_vec(name));
        match fs::read(file) {
            Ok(words) => self.pools.extend(pool_in(&words)),
            // Without data, it may belong to any pool.
            Err(_) => self.pools.extend([Vec::new()]),
        }
        self.numbers.insert(number);
    }

    /// Adds links that lead to this disk or to one of its partitions.
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

    /// Finds the folders of bcachefs for these devices: `UUID/dev-N`, with a link to the device.
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
        list(folder).unwrap_or_else(|why| {
            self.uncertainty = Some(why);
            Vec::new()
        })
    }
}

/// The kernel name of a device by the name of its folder in sysfs: with slashes.
pub(super) fn kernel_name(name: &[u8]) -> Vec<u8> {
    let slashes = name
        .iter()
        .map(|byte| if *byte == b'!' { b'/' } else { *byte });
    slashes.collect()
}

/// The number of the device with this folder in sysfs.
pub(super) fn number_in(folder: &Path) -> Option<Vec<u8>> {
    let text = fs::read(folder.join("dev")).ok()?;
    Some(text.trim_ascii().to_vec())
}

/// The ZFS pool that udev found on a device: its name, or an empty name if the pool has none.
fn pool_in(words: &[u8]) -> Option<Vec<u8>> {
    let mut lines = words.split(|byte| *byte == b'\n');
    let is_member = lines.clone().any(|line| line == b"E:ID_FS_TYPE=zfs_member");
    let label = || lines.find_map(|line| line.strip_prefix(b"E:ID_FS_LABEL="));
    is_member
        .then(label)
        .map(|label| label.unwrap_or_default().to_vec())
}

/// The entries of a folder; none if the folder does not exist.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
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

/// The entry does not exist, or is of another type.
pub(super) fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}
