//! Facts about a path for display. They need neither an open of the path nor a read from it.
//!
//! Resolving the name can still block if the path lies on a hung file system. So it is done on
//! threads with a time limit (`device/opener.rs`).

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD};

use crate::device::{
    DeviceId, Sysfs, file_alignment, list_names, map_of, query_all, read_attr, storage_of,
};

/// Unit of sizes in sysfs, independent of the block size of the device.
const SECTOR_BYTES: u64 = 512;

/// What the kernel knows about a path. `None` means unknown or not applicable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFacts {
    /// What the path leads to.
    pub device: DeviceId,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// The unit of `O_DIRECT` reads.
    pub block_bytes: Option<u32>,
    /// State of the connection to the device, in the words of its driver (SCSI, NVMe).
    pub device_state: Option<String>,
    /// What the target reports about this path (`access_state` of SCSI, `ana_state` of NVMe).
    pub access_state: Option<String>,
    /// What all paths to the same storage have in common: the id of the multipath map above the
    /// device, or the id that such a map would have.
    pub group: Option<String>,
    /// Whether the kernel counts the I/O that the device completes.
    pub iostats: Option<bool>,
    /// The disks below it, if it is a multipath map.
    pub map_of: Option<Vec<String>>,
}

impl PathFacts {
    /// Looks up the facts of these paths, in their order, within `limit`. A path that does not
    /// respond, does not exist or has no blocks is `None`.
    pub fn of(paths: &[PathBuf], limit: Duration) -> Vec<Option<PathFacts>> {
        let facts = query_all(paths, limit, look_up).into_iter();
        facts.map(Option::flatten).collect()
    }
}

fn look_up(path: &Path) -> Option<PathFacts> {
    let meta = fs::metadata(path).ok()?;
    match DeviceId::of(&meta) {
        DeviceId::Block { major, minor } => {
            let sysfs = Sysfs::of(major, minor);
            let device = DeviceId::of(&meta);
            Some(sysfs.map_or(unknown(device), |sysfs| of_disk(device, &sysfs)))
        }
        DeviceId::File { .. } if meta.is_file() => Some(of_file(path, &meta)),
        DeviceId::File { .. } => None,
    }
}

fn unknown(device: DeviceId) -> PathFacts {
    PathFacts {
        device,
        size_bytes: None,
        block_bytes: None,
        device_state: None,
        access_state: None,
        group: None,
        iostats: None,
        map_of: None,
    }
}

fn of_file(path: &Path, meta: &Metadata) -> PathFacts {
    PathFacts {
        size_bytes: Some(meta.len()),
        block_bytes: file_alignment(CWD, path, AtFlags::empty()),
        ..unknown(DeviceId::of(meta))
    }
}

fn of_disk(device: DeviceId, sysfs: &Sysfs) -> PathFacts {
    let sectors: Option<u64> = number(&sysfs.device_dir().join("size"));
    let disk = sysfs.disk_dir();
    PathFacts {
        size_bytes: sectors.map(|sectors| sectors.saturating_mul(SECTOR_BYTES)),
        block_bytes: number(&disk.join("queue/logical_block_size")),
        device_state: sysfs.state(),
        access_state: sysfs.access(),
        group: storage_of(&disk),
        iostats: Some(sysfs.has_iostats),
        map_of: map_of(&disk).map(|_| list_names(&disk.join("slaves"))),
        ..unknown(device)
    }
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    read_attr(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DeviceId = DeviceId::Block { major: 8, minor: 1 };

    fn facts_with(files: &[(&str, &str)]) -> PathFacts {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join("dev/block/8:1").join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        of_disk(DISK, &Sysfs::below(root.path(), 8, 1).expect("found"))
    }

    #[test]
    fn a_scsi_path_shows_states_size_and_world_wide_name() {
        let facts = facts_with(&[
            ("size", "2048\n"),
            ("queue/logical_block_size", "4096\n"),
            ("queue/iostats", "0\n"),
            ("device/state", "transport-offline\n"),
            ("device/access_state", "standby\n"),
            ("device/wwid", "naa.6001405\n"),
        ]);
        let expected = PathFacts {
            device: DISK,
            size_bytes: Some(1 << 20),
            block_bytes: Some(4096),
            device_state: Some("transport-offline".to_owned()),
            access_state: Some("standby".to_owned()),
            group: Some("36001405".to_owned()),
            iostats: Some(false),
            map_of: None,
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_partition_has_its_own_size_and_the_rest_of_its_disk() {
        let root = tempfile::tempdir().expect("a folder");
        let part = root.path().join("devices/sda/sda1");
        fs::create_dir_all(&part).expect("folders");
        fs::create_dir_all(root.path().join("dev/block")).expect("folders");
        for (name, text) in [("sda1/partition", "1"), ("sda1/size", "8"), ("wwid", "x\n")] {
            fs::write(root.path().join("devices/sda").join(name), text).expect("a file");
        }
        std::os::unix::fs::symlink(&part, root.path().join("dev/block/8:1")).expect("a link");
        let facts = of_disk(DISK, &Sysfs::below(root.path(), 8, 1).expect("found"));
        assert_eq!(facts.size_bytes, Some(4096));
        assert_eq!(facts.group.as_deref(), Some("x"));
    }

    #[test]
    fn a_map_shows_the_disks_below_it() {
        let path = facts_with(&[("holders/dm-0/dm/uuid", "mpath-3600a\n")]);
        assert_eq!((path.group.as_deref(), path.map_of), (Some("3600a"), None));
        let map = facts_with(&[
            ("dm/uuid", "mpath-3600a\n"),
            ("slaves/sdb/size", "8"),
            ("slaves/sda/size", "8"),
        ]);
        assert_eq!(map.group.as_deref(), Some("3600a"));
        assert_eq!(map.map_of, Some(vec!["sda".to_owned(), "sdb".to_owned()]));
    }

    #[test]
    fn files_have_a_size_and_other_paths_have_no_facts() {
        let file = tempfile::NamedTempFile::new_in(".").expect("a file");
        file.as_file().set_len(8192).expect("sized");
        let paths = [file.path(), Path::new("/dev/null"), Path::new("/nowhere")];
        let facts = PathFacts::of(&paths.map(PathBuf::from), Duration::from_secs(600));
        assert_eq!(
            facts[0].as_ref().and_then(|facts| facts.size_bytes),
            Some(8192)
        );
        assert_eq!(facts[1..], [None, None]);
    }
}
