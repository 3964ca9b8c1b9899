//! What the kernel itself says about a block device, from sysfs, without any I/O to the device.
//!
//! Reading these files never waits for the device: they show fields and counters of the driver
//! (Documentation/ABI/stable/sysfs-block, block/genhd.c, drivers/scsi/scsi_sysfs.c,
//! drivers/nvme/host/sysfs.c).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::check::Counters;

/// What the kernel says about the way to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing against a read.
    Running,
    /// I/O would be refused: the device is offline, dead, or on its way out.
    Offline,
    /// The target serves no reads on this path, by design.
    Standby,
}

/// Where a worker learns what the kernel says about a path. Real paths have sysfs; simulations
/// make it up.
pub(crate) trait Evidence {
    /// The state of the way to the device, now.
    fn link(&self) -> LinkState;

    /// The device's completion counters, now; `None` if it keeps none.
    fn counters(&self) -> Option<Counters>;
}

/// No evidence at all: for files that are not block devices.
pub(crate) struct NoEvidence;

impl Evidence for NoEvidence {
    fn link(&self) -> LinkState {
        LinkState::Running
    }

    fn counters(&self) -> Option<Counters> {
        None
    }
}

/// The sysfs folder of one block device, by its number, which belongs to the device as long as it is
/// open. Paths are put together when they are asked for, since there may be very many of these.
#[derive(Debug)]
pub(crate) struct Sysfs {
    /// Where sysfs is, if not where it always is.
    root: Option<Box<PathBuf>>,
    major: u32,
    minor: u32,
    is_partition: bool,
    has_state: bool,
    /// The file that holds what the target says; most devices have none.
    access: Option<Access>,
    pub(crate) keeps_statistics: bool,
}

/// Who has a word for the ways to a target, and where.
#[derive(Clone, Copy, Debug)]
enum Access {
    Scsi,
    Nvme,
}

impl Access {
    fn file(self) -> &'static str {
        match self {
            Access::Scsi => "device/access_state",
            Access::Nvme => "ana_state",
        }
    }
}

impl Sysfs {
    /// The folder of device `major:minor`; `None` where there is none.
    pub(crate) fn of(major: u32, minor: u32) -> Option<Sysfs> {
        Sysfs::find(None, major, minor)
    }

    /// The same below another root.
    #[cfg(test)]
    pub(crate) fn below(root: &Path, major: u32, minor: u32) -> Option<Sysfs> {
        Sysfs::find(Some(Box::new(root.to_path_buf())), major, minor)
    }

    fn find(root: Option<Box<PathBuf>>, major: u32, minor: u32) -> Option<Sysfs> {
        let mut found = Sysfs {
            root,
            major,
            minor,
            is_partition: false,
            has_state: false,
            access: None,
            keeps_statistics: true,
        };
        let own = found.own();
        if !own.exists() {
            return None;
        }
        found.is_partition = own.join("partition").exists();
        let disk = found.disk();
        let has = |name: &str| disk.join(name).exists();
        found.keeps_statistics = word(&disk.join("queue/iostats")).as_deref() != Some("0");
        found.has_state = has("device/state");
        let mut accesses = [Access::Scsi, Access::Nvme].into_iter();
        found.access = accesses.find(|access| has(access.file()));
        Some(found)
    }

    /// The folder of the device itself.
    pub(crate) fn own(&self) -> PathBuf {
        let root = self.root.as_deref().map_or(Path::new("/sys"), |root| root);
        root.join(format!("dev/block/{}:{}", self.major, self.minor))
    }

    /// The folder of the whole disk: tags and states belong to it, not to its partitions.
    pub(crate) fn disk(&self) -> PathBuf {
        let mut folder = self.own();
        if self.is_partition {
            // Of the folder that the number is a link to.
            folder.push("..");
        }
        folder
    }

    /// The state of the way to the device, in the words of its driver.
    pub(crate) fn state(&self) -> Option<String> {
        // Most devices have none: nothing is put together for these.
        let state = self.has_state.then(|| self.disk().join("device/state"))?;
        word(&state)
    }

    /// What the target says of this way to it (ALUA, ANA), in the words of the driver.
    pub(crate) fn access(&self) -> Option<String> {
        let file = self.access?.file();
        word(&self.disk().join(file))
    }
}

impl Evidence for Sysfs {
    fn link(&self) -> LinkState {
        let state = self.state();
        if state.as_deref().is_some_and(is_offline) {
            return LinkState::Offline;
        }
        let access = self.access();
        if access.as_deref().is_some_and(is_standby) {
            return LinkState::Standby;
        }
        LinkState::Running
    }

    fn counters(&self) -> Option<Counters> {
        if !self.keeps_statistics {
            return None;
        }
        parse_counters(&word(&self.disk().join("stat"))?)
    }
}

/// The file's text, trimmed. States and statistics are shorter than the buffer.
pub(crate) fn word(path: &Path) -> Option<String> {
    let mut buffer = [0u8; 512];
    let read = fs::File::open(path).ok()?.read(&mut buffer).ok()?;
    let text = std::str::from_utf8(&buffer[..read]).ok()?;
    Some(text.trim().to_owned())
}

/// States in which the kernel refuses I/O: `sdev_states` of drivers/scsi/scsi_sysfs.c and
/// `nvme_sysfs_show_state` of drivers/nvme/host/sysfs.c.
fn is_offline(state: &str) -> bool {
    matches!(
        state,
        "offline"
            | "transport-offline"
            | "cancel"
            | "deleted"
            | "dead"
            | "deleting"
            | "deleting (no IO)"
    )
}

/// `sdev_access_states` of drivers/scsi/scsi_sysfs.c and `nvme_ana_state_names` of
/// drivers/nvme/host/multipath.c: those that serve no reads.
fn is_standby(state: &str) -> bool {
    matches!(
        state,
        "standby" | "unavailable" | "transitioning" | "inaccessible" | "persistent-loss" | "change"
    )
}

/// The fields of `stat` (Documentation/block/stat.rst): completed reads, writes, discards and
/// flushes are the fields 1, 5, 12 and 16, requests in flight are field 9, counted from 1.
fn parse_counters(stat: &str) -> Option<Counters> {
    let fields: Vec<u64> = stat
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let completed = [0, 4, 11, 15]
        .iter()
        .filter_map(|&field| fields.get(field))
        .sum();
    Some(Counters {
        completed,
        in_flight: *fields.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join("dev/block/8:0").join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn link_with(files: &[(&str, &str)]) -> LinkState {
        let root = tree(files);
        Sysfs::below(root.path(), 8, 0).expect("found").link()
    }

    #[test]
    fn states_of_scsi_and_nvme_are_told_apart() {
        let scsi = |state| link_with(&[("device/state", state)]);
        assert_eq!(scsi("running\n"), LinkState::Running);
        assert_eq!(scsi("blocked\n"), LinkState::Running);
        assert_eq!(scsi("offline\n"), LinkState::Offline);
        assert_eq!(scsi("transport-offline\n"), LinkState::Offline);
        assert_eq!(scsi("dead\n"), LinkState::Offline);
        let alua = |access| {
            link_with(&[
                ("device/state", "running\n"),
                ("device/access_state", access),
            ])
        };
        assert_eq!(alua("active/optimized\n"), LinkState::Running);
        assert_eq!(alua("active/non-optimized\n"), LinkState::Running);
        assert_eq!(alua("standby\n"), LinkState::Standby);
        assert_eq!(alua("transitioning\n"), LinkState::Standby);
        let ana = |access| link_with(&[("ana_state", access)]);
        assert_eq!(ana("optimized\n"), LinkState::Running);
        assert_eq!(ana("inaccessible\n"), LinkState::Standby);
    }

    #[test]
    fn offline_counts_before_standby() {
        let both = [
            ("device/state", "offline\n"),
            ("device/access_state", "standby\n"),
        ];
        assert_eq!(link_with(&both), LinkState::Offline);
    }

    #[test]
    fn counters_are_read_unless_the_device_keeps_none() {
        let stat = "  10 0 80 3 20 0 160 5 7 12 8 1 0 8 0 4 2\n";
        let root = tree(&[("stat", stat), ("queue/iostats", "1\n")]);
        let counters = Sysfs::below(root.path(), 8, 0).expect("found").counters();
        let expected = Counters {
            completed: 10 + 20 + 1 + 4,
            in_flight: 7,
        };
        assert_eq!(counters, Some(expected));
        let root = tree(&[("stat", stat), ("queue/iostats", "0\n")]);
        let sysfs = Sysfs::below(root.path(), 8, 0).expect("found");
        assert_eq!(sysfs.counters(), None);
        assert!(Sysfs::below(root.path(), 8, 1).is_none());
    }

    #[test]
    fn old_kernels_have_fewer_fields() {
        let counters = parse_counters("10 0 80 3 20 0 160 5 7 12 8").expect("parsed");
        assert_eq!(counters.completed, 30);
        assert_eq!(parse_counters("10 0"), None);
    }
}
