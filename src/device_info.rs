//! What a device is called and where it is attached, for people: what `multipath -ll` and lsblk(8) show.
//!
//! It is read from sysfs and from udev's database when the path is opened; nothing here asks the device.
//! What may change while the path is open (its map, its size, its links) is read again now and then
//! (`worker/names.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::storage::{dm_name, holders_of, map_of, storage_of, text_in};
use crate::sysfs::{Sysfs, word};
use crate::topology::{Topology, hctl, transport};

/// The unit of `size` in sysfs (Documentation/ABI/stable/sysfs-block).
const SECTOR_BYTES: u64 = 512;

/// What the kernel and udev know of a device. What they don't know, or what does not apply, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What the kernel calls it: `sda`, as in /proc/diskstats.
    pub kernel_name: Option<Box<str>>,
    /// The nodes and links in /dev that udev made for it, the kernel's own name first.
    pub names: Box<[PathBuf]>,
    /// Host, channel, target and LUN of a SCSI disk: `3:0:0:1`.
    pub hctl: Option<Box<str>>,
    /// The name of the device-mapper map that it is, or of the multipath map that has it as a path.
    pub map: Option<Box<str>>,
    /// The id of its storage, as multipath names it.
    pub wwid: Option<Box<str>>,
    /// Who made it, as it says itself.
    pub vendor: Option<Box<str>>,
    /// The product, as it says itself.
    pub model: Option<Box<str>>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// What carries its commands, in the words of lsblk(8): `fc`, `iscsi`, `sas`, `sata`, `usb`, `virtio`;
    /// for NVMe `pcie`, `tcp`, `rdma`, `fc`, `loop`.
    pub transport: Option<Box<str>>,
    /// Where it is attached.
    pub topology: Topology,
}

impl DeviceInfo {
    /// Of a block device.
    pub(crate) fn of_disk(sysfs: &Sysfs) -> DeviceInfo {
        let disk = sysfs.disk();
        // Where the links of sysfs lead says what the disk is attached to.
        let folder = fs::canonicalize(&disk).unwrap_or_else(|_| disk.clone());
        let device = folder.join("device");
        let text = |name: &str| text_in(&device.join(name)).filter(|text| !is_number(text));
        DeviceInfo {
            kernel_name: kernel_name(&sysfs.own()),
            hctl: hctl(&device),
            wwid: storage_of(&disk).map(Into::into),
            vendor: text("vendor").map(Into::into),
            model: text("model").map(Into::into),
            transport: transport(&folder),
            topology: Topology::of(&folder),
            ..DeviceInfo::default()
        }
        .refreshed(sysfs)
    }

    /// Of a regular file.
    pub(crate) fn of_file(size_bytes: u64) -> DeviceInfo {
        DeviceInfo {
            size_bytes: Some(size_bytes),
            ..DeviceInfo::default()
        }
    }

    /// The same device, with what may have changed read again.
    pub(crate) fn refreshed(&self, sysfs: &Sysfs) -> DeviceInfo {
        let own = sysfs.own();
        let sectors = word(&own.join("size")).and_then(|size| size.parse::<u64>().ok());
        DeviceInfo {
            names: names(self.kernel_name.as_deref(), sysfs),
            map: map(&sysfs.disk()).map(Into::into),
            size_bytes: sectors.map(|sectors| sectors.saturating_mul(SECTOR_BYTES)),
            ..self.clone()
        }
    }
}

/// Of virtio the vendor is a PCI id, which tells nobody anything.
fn is_number(text: &str) -> bool {
    text.starts_with("0x")
}

/// The last part of the folder in sysfs. A name with a slash, such as cciss/c0d0, has an exclamation mark
/// for it there.
fn kernel_name(own: &Path) -> Option<Box<str>> {
    let folder = fs::canonicalize(own).ok()?;
    let name = folder.file_name()?.to_string_lossy().replace('!', "/");
    Some(name.into())
}

/// The name of the map that a disk is, or of the multipath map above it.
fn map(disk: &Path) -> Option<String> {
    dm_name(disk).or_else(|| {
        let holders = holders_of(disk).into_iter();
        let map = { holders }.find(|holder| map_of(holder).is_some());
        dm_name(&map?)
    })
}

/// The kernel's own name, that of device-mapper, and the links that udev made (udev keeps them as lines `S:` of a
/// file for each device).
fn names(kernel_name: Option<&str>, sysfs: &Sysfs) -> Box<[PathBuf]> {
    let dev = Path::new("/dev");
    let mut names: Vec<PathBuf> = kernel_name.map(|name| dev.join(name)).into_iter().collect();
    let (major, minor) = sysfs.number();
    let udev = sysfs.udev_data().join(format!("b{major}:{minor}"));
    let udev = fs::read_to_string(udev).unwrap_or_default();
    let links = udev.lines().filter_map(|line| line.strip_prefix("S:"));
    let mut links: Vec<PathBuf> = links.map(|link| dev.join(link)).collect();
    links.extend(dm_name(&sysfs.own()).map(|name| dev.join("mapper").join(name)));
    links.sort();
    links.dedup();
    names.extend(links);
    names.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixture::Tree;

    #[test]
    fn a_leg_shows_what_multipath_shows_of_it() {
        let tree = Tree::fibre_channel();
        let info = DeviceInfo::of_disk(&tree.sysfs(8, 16));
        assert_eq!(info.kernel_name.as_deref(), Some("sdb"));
        assert_eq!(info.hctl.as_deref(), Some("3:0:0:1"));
        assert_eq!(info.map.as_deref(), Some("mpatha"));
        assert_eq!(info.wwid.as_deref(), Some("3600a"));
        assert_eq!(info.vendor.as_deref(), Some("HP"));
        assert_eq!(info.model.as_deref(), Some("MSA 2050 SAN"));
        assert_eq!(info.size_bytes, Some(1 << 30));
        assert_eq!(info.transport.as_deref(), Some("fc"));
        let names: Vec<_> = info.names.iter().map(|name| name.to_str()).collect();
        let expected = [
            "/dev/sdb",
            "/dev/disk/by-id/wwn-0x600a",
            "/dev/disk/by-path/fc-lun-1",
        ];
        assert_eq!(names, expected.map(Some));
    }

    #[test]
    fn what_changes_is_read_again() {
        let tree = Tree::fibre_channel();
        let before = DeviceInfo::of_disk(&tree.sysfs(8, 16));
        assert_eq!(before.refreshed(&tree.sysfs(8, 16)), before);
        tree.write("devices/virtual/block/dm-0/dm/name", "database");
        let disk = format!("{}/block/sdb", Tree::SCSI_DISK);
        tree.write(&format!("{disk}/size"), "8");
        let after = before.refreshed(&tree.sysfs(8, 16));
        assert_eq!(
            (after.map.as_deref(), after.size_bytes),
            (Some("database"), Some(4096))
        );
        assert_eq!(after.topology, before.topology);
    }

    #[test]
    fn a_map_has_its_own_name() {
        let tree = Tree::fibre_channel();
        let info = DeviceInfo::of_disk(&tree.sysfs(253, 0));
        assert_eq!(info.map.as_deref(), Some("mpatha"));
        assert_eq!(info.wwid.as_deref(), Some("3600a"));
        let mapper = Path::new("/dev/mapper/mpatha");
        assert!(info.names.iter().any(|name| name == mapper), "{info:?}");
        assert_eq!((info.hctl, info.transport), (None, None));
    }
}
