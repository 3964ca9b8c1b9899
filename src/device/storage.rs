//! Which paths lead to the same storage, according to sysfs.
//!
//! The uuid of a multipath map contains the id of its storage. Its legs get the id from the map
//! that holds them. Other disks have an id of their own, in the form that multipath uses
//! (`device/storage/id.rs`). A leg that dropped out of its map, or whose map does not exist yet, is
//! then in the same group.
//!
//! An id without information (zeros, blanks) is ignored: two disks with such an id have nothing in
//! common.

mod id;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use id::target_port_group;

/// The id of the storage behind the disk with this sysfs directory; `None` if the kernel knows
/// none. This never waits for the disk: the kernel caches what it learned when the disk appeared.
pub(crate) fn storage_of(disk: &Path) -> Option<String> {
    let above = || holders_of(disk).iter().find_map(|holder| map_of(holder));
    map_of(disk).or_else(above).or_else(|| own_id(disk))
}

/// The devices above a disk, sorted.
pub(crate) fn holders_of(disk: &Path) -> Vec<PathBuf> {
    let holders = fs::read_dir(disk.join("holders")).into_iter().flatten();
    let mut holders: Vec<PathBuf> = holders.flatten().map(|holder| holder.path()).collect();
    holders.sort();
    holders
}

/// The name of a device-mapper map.
pub(crate) fn dm_name(disk: &Path) -> Option<String> {
    read_text(&disk.join("dm/name"))
}

/// The storage id of a multipath map; `None` for other devices.
pub(crate) fn map_of(disk: &Path) -> Option<String> {
    let uuid = read_text(&disk.join("dm/uuid"))?;
    let id = uuid.strip_prefix("mpath-")?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// The id of the disk itself.
fn own_id(disk: &Path) -> Option<String> {
    // NVMe namespaces have it in `wwid`, SCSI disks in `device/wwid`.
    if let Some(wwid) = read_text(&disk.join("wwid")) {
        return id::of_nvme(&wwid);
    }
    let device = disk.join("device");
    let model = id::Model {
        vendor: read_text(&device.join("vendor")).unwrap_or_default(),
        model: read_text(&device.join("model")).unwrap_or_default(),
        is_usb: is_usb(disk),
    };
    if let Some(wwid) = read_text(&device.join("wwid")) {
        return id::of_scsi(&wwid, &model);
    }
    // The kernel ignores vendor-specific designators. multipath uses them, and after them the
    // serial number.
    let page = |name: &str| fs::read(device.join(name)).unwrap_or_default();
    id::of_designators(&page("vpd_pg83"), &model).or_else(|| {
        let serial = page("vpd_pg80");
        id::of_serial(&serial, &model)
    })
}

/// Whether the disk is on a USB bus, according to its resolved sysfs path.
fn is_usb(disk: &Path) -> bool {
    let folder = fs::canonicalize(disk).unwrap_or_default();
    let mut parts = folder.iter();
    parts.any(|part| part.as_encoded_bytes().starts_with(b"usb"))
}

/// The text of a file, trimmed; `None` if it is empty. Bytes that are not UTF-8 are escaped, so
/// that different texts stay different.
pub(crate) fn read_text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes[..end.unwrap_or(bytes.len())].trim_ascii();
    let text = std::str::from_utf8(bytes);
    let text = text.map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned);
    (!text.is_empty()).then_some(text)
}

/// The names in a directory, sorted; empty if the directory does not exist.
pub(crate) fn list_names(folder: &Path) -> Vec<String> {
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
    fn legs_in_and_outside_their_map_are_the_same_storage() {
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
    fn a_disk_without_wwid_is_identified_by_its_serial_except_on_usb() {
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
    fn ids_that_are_not_utf8_stay_different() {
        let one = storage_with(&[("wwid", b"odd.\xe9\n")]);
        let other = storage_with(&[("wwid", b"odd.\xe8\n")]);
        assert!(one.is_some() && one != other, "{one:?}");
    }
}
