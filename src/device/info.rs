//! Names of a device and where it is attached, for display: what `multipath -ll` and lsblk(8) show.
//!
//! The data comes from sysfs and from udev's database when the path is opened; the device itself is
//! not asked. What can change while the path is open (its map, its size, its links) is refreshed
//! periodically (`worker/names.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::device::{
    Sysfs, Topology, dm_name, hctl, holders_of, map_of, read_attr, read_text, storage_of, transport,
};

/// The unit of `size` in sysfs (Documentation/ABI/stable/sysfs-block).
const SECTOR_BYTES: u64 = 512;

/// What the kernel and udev know about a device. `None` means unknown or not applicable.
///
/// Since there may be very many of these, one string holds all texts, one per line, without
/// trailing empty lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    size_bytes: Option<u64>,
    texts: Box<str>,
}

/// The lines of the string.
#[derive(Clone, Copy)]
enum Text {
    KernelName,
    Map,
    Wwid,
    Hctl,
    Vendor,
    Model,
    Transport,
    Adapter,
    AdapterPort,
    TargetPort,
    Controller,
    Session,
}

/// Number of these lines. The lines after them are the links of the device.
const TEXTS: usize = Text::Session as usize + 1;

impl DeviceInfo {
    /// Describes a block device.
    pub(crate) fn of_disk(sysfs: &Sysfs) -> DeviceInfo {
        let disk = sysfs.disk_dir();
        // The resolved path shows what the disk is attached to.
        let folder = fs::canonicalize(&disk).unwrap_or_else(|_| disk.clone());
        let device = folder.join("device");
        let text = |name: &str| read_text(&device.join(name)).filter(|text| !is_number(text));
        let topology = Topology::of(&folder);
        let mut lines = [const { None }; TEXTS];
        lines[Text::KernelName as usize] = kernel_name(&sysfs.device_dir());
        lines[Text::Wwid as usize] = storage_of(&disk);
        lines[Text::Hctl as usize] = hctl(&device);
        lines[Text::Vendor as usize] = text("vendor");
        lines[Text::Model as usize] = text("model");
        lines[Text::Transport as usize] = transport(&folder);
        lines[Text::Adapter as usize] = topology.adapter;
        lines[Text::AdapterPort as usize] = topology.adapter_port;
        lines[Text::TargetPort as usize] = topology.target_port;
        lines[Text::Controller as usize] = topology.controller;
        lines[Text::Session as usize] = topology.session;
        DeviceInfo::with(lines, sysfs)
    }

    /// Describes a regular file.
    pub(crate) fn of_file(size_bytes: u64) -> DeviceInfo {
        DeviceInfo {
            size_bytes: Some(size_bytes),
            texts: Box::default(),
        }
    }

    /// Returns a copy with everything refreshed that may have changed.
    pub(crate) fn refreshed(&self, sysfs: &Sysfs) -> DeviceInfo {
        let mut lines = [const { None }; TEXTS];
        for (ours, line) in lines.iter_mut().zip(self.texts.lines()) {
            *ours = Some(line.to_owned());
        }
        DeviceInfo::with(lines, sysfs)
    }

    fn with(mut lines: [Option<String>; TEXTS], sysfs: &Sysfs) -> DeviceInfo {
        lines[Text::Map as usize] = map(&sysfs.disk_dir());
        let lines = lines.map(|line| line.unwrap_or_default().replace('\n', " "));
        let all: Vec<String> = lines.into_iter().chain(links(sysfs)).collect();
        let sectors =
            read_attr(&sysfs.device_dir().join("size")).and_then(|size| size.parse::<u64>().ok());
        DeviceInfo {
            size_bytes: sectors.map(|sectors| sectors.saturating_mul(SECTOR_BYTES)),
            texts: all.join("\n").trim_end_matches('\n').into(),
        }
    }

    /// The size in bytes, and all texts in one: what [`DeviceInfo::from_parts`] takes.
    pub(crate) fn parts(&self) -> (Option<u64>, &str) {
        (self.size_bytes, &self.texts)
    }

    /// The description with these parts; `None` if the texts end with an empty line, as no
    /// description's do.
    pub(crate) fn from_parts(size_bytes: Option<u64>, texts: Box<str>) -> Option<DeviceInfo> {
        (!texts.ends_with('\n')).then_some(DeviceInfo { size_bytes, texts })
    }

    fn text(&self, which: Text) -> Option<&str> {
        let line = self.texts.lines().nth(which as usize)?;
        (!line.is_empty()).then_some(line)
    }

    /// The kernel's name: `sda`, as in /proc/diskstats.
    pub fn kernel_name(&self) -> Option<&str> {
        self.text(Text::KernelName)
    }

    /// Its nodes and links in /dev made by udev, the kernel's own name first.
    pub fn names(&self) -> impl Iterator<Item = PathBuf> {
        let links = self.texts.lines().skip(TEXTS);
        let names = self.kernel_name().into_iter().chain(links);
        names.map(|name| Path::new("/dev").join(name))
    }

    /// Host, channel, target and LUN of a SCSI disk: `3:0:0:1`.
    pub fn hctl(&self) -> Option<&str> {
        self.text(Text::Hctl)
    }

    /// The name of the device-mapper map that it is, or of the multipath map that contains it as a
    /// path.
    pub fn map(&self) -> Option<&str> {
        self.text(Text::Map)
    }

    /// The id of its storage, as in multipath.
    pub fn wwid(&self) -> Option<&str> {
        self.text(Text::Wwid)
    }

    /// The vendor, as the device reports it.
    pub fn vendor(&self) -> Option<&str> {
        self.text(Text::Vendor)
    }

    /// The product, as the device reports it.
    pub fn model(&self) -> Option<&str> {
        self.text(Text::Model)
    }

    /// The size in bytes.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// The transport, with the names of lsblk(8): `fc`, `iscsi`, `sas`, `sata`, `usb`, `virtio`;
    /// for NVMe `pcie`, `tcp`, `rdma`, `fc`, `loop`.
    pub fn transport(&self) -> Option<&str> {
        self.text(Text::Transport)
    }

    /// Where it is attached.
    pub fn topology(&self) -> Topology {
        let text = |which| self.text(which).map(str::to_owned);
        Topology {
            adapter: text(Text::Adapter),
            adapter_port: text(Text::AdapterPort),
            target_port: text(Text::TargetPort),
            controller: text(Text::Controller),
            session: text(Text::Session),
        }
    }
}

/// Whether this is a number. virtio reports a PCI id as its vendor, which is of no use for display.
fn is_number(text: &str) -> bool {
    text.starts_with("0x")
}

/// The last part of the sysfs directory. It has an exclamation mark in place of a slash, as in
/// cciss/c0d0.
fn kernel_name(own: &Path) -> Option<String> {
    let folder = fs::canonicalize(own).ok()?;
    Some(folder.file_name()?.to_string_lossy().replace('!', "/"))
}

/// The name of the map that a disk is, or of the multipath map above it.
fn map(disk: &Path) -> Option<String> {
    dm_name(disk).or_else(|| {
        let holders = holders_of(disk).into_iter();
        let map = { holders }.find(|holder| map_of(holder).is_some());
        dm_name(&map?)
    })
}

/// The name in device-mapper and the links that udev made, relative to /dev. udev keeps the links
/// in lines `S:` of one file per device.
fn links(sysfs: &Sysfs) -> Vec<String> {
    let (major, minor) = sysfs.number();
    let udev = sysfs.udev_data().join(format!("b{major}:{minor}"));
    let udev = fs::read_to_string(udev).unwrap_or_default();
    let links = udev.lines().filter_map(|line| line.strip_prefix("S:"));
    let mut links: Vec<String> = links.map(str::to_owned).collect();
    links.extend(dm_name(&sysfs.device_dir()).map(|name| format!("mapper/{name}")));
    links.sort();
    links.dedup();
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::topology::fixture::Tree;

    #[test]
    fn a_leg_shows_what_multipath_shows() {
        let tree = Tree::fibre_channel();
        let info = DeviceInfo::of_disk(&tree.sysfs(8, 16));
        assert_eq!(info.kernel_name(), Some("sdb"));
        assert_eq!(info.hctl(), Some("3:0:0:1"));
        assert_eq!(info.map(), Some("mpatha"));
        assert_eq!(info.wwid(), Some("3600a"));
        assert_eq!(info.vendor(), Some("HP"));
        assert_eq!(info.model(), Some("MSA 2050 SAN"));
        assert_eq!(info.size_bytes(), Some(1 << 30));
        assert_eq!(info.transport(), Some("fc"));
        let names: Vec<PathBuf> = info.names().collect();
        let expected = [
            "/dev/sdb",
            "/dev/disk/by-id/wwn-0x600a",
            "/dev/disk/by-path/fc-lun-1",
        ];
        assert_eq!(names, expected.map(PathBuf::from));
    }

    #[test]
    fn changes_show_after_a_refresh() {
        let tree = Tree::fibre_channel();
        let before = DeviceInfo::of_disk(&tree.sysfs(8, 16));
        assert_eq!(before.refreshed(&tree.sysfs(8, 16)), before);
        tree.write("devices/virtual/block/dm-0/dm/name", "database");
        let disk = format!("{}/block/sdb", Tree::SCSI_DISK);
        tree.write(&format!("{disk}/size"), "8");
        let after = before.refreshed(&tree.sysfs(8, 16));
        assert_eq!(
            (after.map(), after.size_bytes()),
            (Some("database"), Some(4096))
        );
        assert_eq!(after.topology(), before.topology());
    }

    #[test]
    fn a_map_has_its_own_name() {
        let tree = Tree::fibre_channel();
        let info = DeviceInfo::of_disk(&tree.sysfs(253, 0));
        assert_eq!(info.map(), Some("mpatha"));
        assert_eq!(info.wwid(), Some("3600a"));
        let mapper = Path::new("/dev/mapper/mpatha");
        assert!(info.names().any(|name| name == mapper), "{info:?}");
        assert_eq!((info.hctl(), info.transport()), (None, None));
    }
}
