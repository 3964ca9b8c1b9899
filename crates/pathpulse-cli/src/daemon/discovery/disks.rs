//! The disks of a host, from sysfs and the links of udev. Nothing here opens a device.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk_parts::DiskParts;

/// A disk that can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Its kernel name, such as `sda` or `cciss/c0d0`.
    pub(crate) kernel: String,
    pub(crate) bytes: u64,
    /// It is a path of a dm-multipath map.
    pub(crate) is_multipath_path: bool,
    /// Links to it, the preferred ones first.
    pub(crate) by_id: Vec<PathBuf>,
    pub(crate) by_path: Vec<PathBuf>,
    pub(crate) parts: DiskParts,
}

/// The disks in a folder such as `/sys/block`, and the links to them in a folder such as `/dev`.
pub(crate) fn disks_in(sysfs: &Path, dev: &Path) -> Vec<Disk> {
    let entries = fs::read_dir(sysfs).into_iter().flatten().flatten();
    let by_id = links(&dev.join("disk/by-id"));
    let by_path = links(&dev.join("disk/by-path"));
    let mut disks: Vec<Disk> = entries
        .filter(|entry| is_worth_a_check(&entry.path()))
        .map(|entry| {
            // sysfs writes a slash in a name, such as cciss/c0d0, as an exclamation mark.
            let kernel = entry.file_name().to_string_lossy().replace('!', "/");
            let mut parts = DiskParts::of(&entry.path(), dev);
            let linked = |name: &str| [&by_id, &by_path].map(|links| links.get(name).cloned());
            parts.add_links(
                |name| linked(name).into_iter().flatten().flatten().collect(),
                dev,
            );
            Disk {
                bytes: number(&entry.path(), "size")
                    .unwrap_or(0)
                    .saturating_mul(512),
                is_multipath_path: is_multipath_path(&entry.path()),
                by_id: by_id.get(&kernel).cloned().unwrap_or_default(),
                by_path: by_path.get(&kernel).cloned().unwrap_or_default(),
                parts,
                kernel,
            }
        })
        .collect();
    disks.sort_by(|a, b| a.kernel.cmp(&b.kernel));
    disks
}

/// The links in a folder by the kernel name of their target. Links whose names are the identity
/// that the storage reports come before those made from vendor names.
fn links(folder: &Path) -> HashMap<String, Vec<PathBuf>> {
    const PREFERRED: [&str; 4] = ["wwn-", "nvme-eui.", "nvme-uuid.", "scsi-3"];
    let rank = |link: &PathBuf| {
        let name = link.file_name().unwrap_or_default().to_string_lossy();
        let place = PREFERRED.iter().position(|start| name.starts_with(start));
        (place.unwrap_or(PREFERRED.len()), link.clone())
    };
    let mut all: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // udev's links are relative: ../../sda
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let text = target.to_string_lossy();
        let kernel = text.trim_start_matches("../").to_owned();
        all.entry(kernel).or_default().push(entry.path());
    }
    for links in all.values_mut() {
        links.sort_by_cached_key(rank);
    }
    all
}

fn is_multipath_path(disk: &Path) -> bool {
    let holders = fs::read_dir(disk.join("holders"));
    let mut holders = holders.into_iter().flatten().flatten();
    holders.any(|holder| {
        let uuid = fs::read(holder.path().join("dm/uuid"));
        uuid.is_ok_and(|uuid| uuid.starts_with(b"mpath-"))
    })
}

fn number(disk: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(disk.join(name)).ok()?;
    text.trim().parse().ok()
}

fn is_worth_a_check(disk: &Path) -> bool {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    // Floppy and optical drives have a size even without a medium.
    let takes_media = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_used = !takes_media("loop") || disk.join("loop/backing_file").exists();
    number(disk, "size").is_some_and(|sectors| sectors > 0)
        && number(disk, "hidden") != Some(1)
        && is_used
        && !takes_media("fd")
        && !takes_media("sr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_hidden_or_removable_is_left_out() {
        let sysfs = tempfile::tempdir().expect("a folder");
        let disk = |name: &str, files: &[(&str, &str)]| {
            for (file, text) in files {
                let path = sysfs.path().join(name).join(file);
                fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
                fs::write(path, text).expect("a file");
            }
        };
        disk("sda", &[("size", "2048\n"), ("hidden", "0\n")]);
        disk("cciss!c0d0", &[("size", "2048\n")]);
        disk("nvme0c0n1", &[("size", "2048\n"), ("hidden", "1\n")]);
        disk("zram0", &[("size", "0\n")]);
        disk("loop0", &[("size", "8\n"), ("loop/backing_file", "/x\n")]);
        disk("loop1", &[("size", "8\n")]);
        disk("sr0", &[("size", "2097151\n")]);
        disk("fd0", &[("size", "8\n")]);
        disk("broken", &[("ro", "0\n")]);
        let dev = tempfile::tempdir().expect("a folder");
        let found = disks_in(sysfs.path(), dev.path());
        let names: Vec<&str> = found.iter().map(|disk| disk.kernel.as_str()).collect();
        assert_eq!(names, ["cciss/c0d0", "loop0", "sda"]);
        assert_eq!(found[2].bytes, 2048 * 512);
        assert!(disks_in(&sysfs.path().join("none"), dev.path()).is_empty());
    }

    #[test]
    fn links_and_maps_are_known() {
        let root = tempfile::tempdir().expect("a folder");
        let (sysfs, dev) = (root.path().join("sys"), root.path().join("dev"));
        let holder = sysfs.join("sda/holders/dm-0/dm");
        fs::create_dir_all(&holder).expect("folders");
        fs::write(holder.join("uuid"), "mpath-3600a\n").expect("a file");
        fs::write(sysfs.join("sda/size"), "8\n").expect("a file");
        let by_id = dev.join("disk/by-id");
        fs::create_dir_all(&by_id).expect("folders");
        for name in ["ata-VENDOR", "wwn-0x5", "scsi-35"] {
            std::os::unix::fs::symlink("../../sda", by_id.join(name)).expect("a link");
        }
        let disks = disks_in(&sysfs, &dev);
        assert!(disks[0].is_multipath_path && disks[0].by_path.is_empty());
        let expected = ["wwn-0x5", "scsi-35", "ata-VENDOR"].map(|name| by_id.join(name));
        assert_eq!(disks[0].by_id, expected);
    }
}
