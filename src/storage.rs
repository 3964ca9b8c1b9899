//! Which paths lead to the same storage, as sysfs knows it.
//!
//! A multipath map has the id of its storage in its uuid; so have its legs, which it holds. What no map
//! holds has a world wide name, from which multipath makes that id (scsi_id of udev: the type of the
//! designator as a digit, then its digits). So a leg that fell out of its map, or one whose map is not
//! there yet, is in the same group.

use std::fs;
use std::path::Path;

use crate::sysfs::word;

/// The id of the storage behind a disk, given its folder in sysfs; `None` if the kernel knows none.
pub(crate) fn storage_of(disk: &Path) -> Option<String> {
    let named = |file: &str| word(&disk.join(file)).filter(|name| !name.is_empty());
    let above = || {
        let holders = names_in(&disk.join("holders"));
        let mut maps = holders
            .iter()
            .filter_map(|holder| map_of(&disk.join("holders").join(holder)));
        maps.next()
    };
    // NVMe namespaces have their name in `wwid`, SCSI disks in `device/wwid`.
    map_of(disk)
        .or_else(above)
        .or_else(|| named("wwid"))
        .or_else(|| named("device/wwid").map(|name| scsi_id(&name)))
}

/// What multipath calls the storage that this device is the map of.
pub(crate) fn map_of(disk: &Path) -> Option<String> {
    let uuid = word(&disk.join("dm/uuid"))?;
    uuid.strip_prefix("mpath-").map(str::to_owned)
}

/// The types of designators in SPC (NAA, EUI-64), as drivers/scsi/scsi_lib.c names them.
fn scsi_id(wwid: &str) -> String {
    match wwid.split_once('.') {
        Some(("naa", digits)) => format!("3{digits}"),
        Some(("eui", digits)) => format!("2{digits}"),
        _ => wwid.to_owned(),
    }
}

/// What is in a folder, in order; nothing, if there is none.
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

    fn storage_with(files: &[(&str, &str)]) -> Option<String> {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        storage_of(root.path())
    }

    #[test]
    fn a_leg_its_map_and_a_leg_outside_are_the_same_storage() {
        let id = Some("3600a".to_owned());
        assert_eq!(storage_with(&[("dm/uuid", "mpath-3600a\n")]), id);
        let held = [
            ("holders/dm-0/dm/uuid", "mpath-3600a\n"),
            ("device/wwid", "t10.whatever\n"),
        ];
        assert_eq!(storage_with(&held), id);
        assert_eq!(storage_with(&[("device/wwid", "naa.600a\n")]), id);
    }

    #[test]
    fn names_are_taken_as_they_are_where_multipath_does() {
        let nvme = storage_with(&[("wwid", "eui.0025\n")]);
        assert_eq!(nvme.as_deref(), Some("eui.0025"));
        let scsi = storage_with(&[("device/wwid", "eui.0025\n")]);
        assert_eq!(scsi.as_deref(), Some("20025"));
        let vendor = storage_with(&[("device/wwid", "t10.ATA  X\n")]);
        assert_eq!(vendor.as_deref(), Some("t10.ATA  X"));
    }

    #[test]
    fn other_maps_and_nameless_disks_are_in_no_group() {
        assert_eq!(storage_with(&[]), None);
        let lvm = [("holders/dm-0/dm/uuid", "LVM-abc\n"), ("wwid", "\n")];
        assert_eq!(storage_with(&lvm), None);
    }
}
