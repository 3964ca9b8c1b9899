//! Which paths lead to the same storage, as sysfs knows it.
//!
//! A multipath map has the id of its storage in its uuid; so have its legs, which it holds. What no map
//! holds has an id of its own, which is named as multipath names it (`device/storage/id.rs`). So a leg that
//! fell out of its map, or one whose map is not there yet, is in the same group.
//!
//! An id that says nothing (zeros, blanks) is none: two disks that have it have nothing in common.

mod id;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use id::target_port_group;

/// The id of the storage behind a disk, given its folder in sysfs; `None` if the kernel knows none.
/// Nothing here waits for the disk: the kernel keeps what it learned when the disk came.
pub(crate) fn storage_of(disk: &Path) -> Option<String> {
    let above = || holders_of(disk).iter().find_map(|holder| map_of(holder));
    map_of(disk).or_else(above).or_else(|| own_id(disk))
}

/// The devices that lie on a disk, in order.
pub(crate) fn holders_of(disk: &Path) -> Vec<PathBuf> {
    let holders = fs::read_dir(disk.join("holders")).into_iter().flatten();
    let mut holders: Vec<PathBuf> = holders.flatten().map(|holder| holder.path()).collect();
    holders.sort();
    holders
}

/// The name of a map of device-mapper.
pub(crate) fn dm_name(disk: &Path) -> Option<String> {
    text_in(&disk.join("dm/name"))
}

/// What multipath calls the storage that this device is the map of.
pub(crate) fn map_of(disk: &Path) -> Option<String> {
    let uuid = text_in(&disk.join("dm/uuid"))?;
    let id = uuid.strip_prefix("mpath-")?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// The id that a disk has of itself.
fn own_id(disk: &Path) -> Option<String> {
    // NVMe namespaces have their name in `wwid`, SCSI disks in `device/wwid`.
    if let Some(wwid) = text_in(&disk.join("wwid")) {
        return id::of_nvme(&wwid);
    }
    let device = disk.join("device");
    let model = id::Model {
        vendor: text_in(&device.join("vendor")).unwrap_or_default(),
        model: text_in(&device.join("model")).unwrap_or_default(),
        is_usb: is_usb(disk),
    };
    if let Some(wwid) = text_in(&device.join("wwid")) {
        return id::of_scsi(&wwid, &model);
    }
    // The kernel passes over designators of no standard; multipath takes them, and the serial after them.
    let page = |name: &str| fs::read(device.join(name)).unwrap_or_default();
    id::of_designators(&page("vpd_pg83"), &model).or_else(|| {
        let serial = page("vpd_pg80");
        id::of_serial(&serial, &model)
    })
}

/// Whether the disk hangs on a USB bus, by the folder that the one in `/sys/block` is a link to.
fn is_usb(disk: &Path) -> bool {
    let folder = fs::canonicalize(disk).unwrap_or_default();
    let mut parts = folder.iter();
    parts.any(|part| part.as_encoded_bytes().starts_with(b"usb"))
}

/// The text of a file, without blanks around it; `None` if there is no text. What is no UTF-8 is escaped,
/// so that what differs stays different.
pub(crate) fn text_in(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes[..end.unwrap_or(bytes.len())].trim_ascii();
    let text = std::str::from_utf8(bytes);
    let text = text.map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned);
    (!text.is_empty()).then_some(text)
}

/// What is in a folder, in order, for people; nothing, if there is none.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage_with(files: &[(&str, &[u8])]) -> Option<String> {
        let root = tempfile::tempdir().expect("a folder");
        storage_below(root.path(), files)
    }

    fn storage_below(folder: &Path, files: &[(&str, &[u8])]) -> Option<String> {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        storage_of(folder)
    }

    #[test]
    fn a_leg_its_map_and_a_leg_outside_are_the_same_storage() {
        let id = Some("3600a".to_owned());
        assert_eq!(storage_with(&[("dm/uuid", b"mpath-3600a\n")]), id);
        let held: [(&str, &[u8]); 2] = [
            ("holders/dm-0/dm/uuid", b"mpath-3600a\n"),
            ("device/wwid", b"t10.whatever\n"),
        ];
        assert_eq!(storage_with(&held), id);
        assert_eq!(storage_with(&[("device/wwid", b"naa.600a\n")]), id);
        let wwid = b"t10.ATA     VIRTUAL-DISK                            SN0001  \n";
        let map = b"mpath-1ATA_VIRTUAL-DISK_SN0001\n";
        assert_eq!(
            storage_with(&[("device/wwid", wwid)]),
            storage_with(&[("holders/dm-0/dm/uuid", map)])
        );
    }

    #[test]
    fn other_maps_and_nameless_disks_are_in_no_group() {
        assert_eq!(storage_with(&[]), None);
        let lvm: [(&str, &[u8]); 2] = [("holders/dm-0/dm/uuid", b"LVM-abc\n"), ("wwid", b"\n")];
        assert_eq!(storage_with(&lvm), None);
        assert_eq!(storage_with(&[("dm/uuid", b"mpath-\n")]), None);
        assert_eq!(
            storage_with(&[("device/wwid", b"naa.0000000000000000\n")]),
            None
        );
        assert_eq!(storage_with(&[("wwid", b"eui.0000000000000000\n")]), None);
    }

    #[test]
    fn a_disk_without_a_world_wide_name_has_its_serial_unless_it_is_on_usb() {
        let files: [(&str, &[u8]); 3] = [
            ("device/vendor", b"HP      \n"),
            ("device/model", b"LOGICAL VOLUME  \n"),
            ("device/vpd_pg80", b"\x00\x80\x00\x08  5C0001"),
        ];
        let id = storage_with(&files);
        assert_eq!(id.as_deref(), Some("SHP_LOGICAL_VOLUME_5C0001"));
        let root = tempfile::tempdir().expect("a folder");
        let bridge = root.path().join("usb2/2-1/block/sda");
        assert_eq!(storage_below(&bridge, &files), None);
    }

    #[test]
    fn names_that_are_no_text_stay_different() {
        let one = storage_with(&[("wwid", b"odd.\xe9\n")]);
        let other = storage_with(&[("wwid", b"odd.\xe8\n")]);
        assert!(one.is_some() && one != other, "{one:?}");
    }
}
