//! What the kernel reports about a block device in sysfs, without any I/O to the device.
//!
//! Reading these files never waits for the device: they show fields and counters of the driver
//! (Documentation/ABI/stable/sysfs-block, block/genhd.c, drivers/scsi/scsi_sysfs.c,
//! drivers/nvme/host/sysfs.c).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::device::{activity_of, is_asleep, is_redundant, is_stacked, limits_reads, numbers_of};
use crate::health::{Activity, DeviceProbe, LinkState};

/// The sysfs directory of one block device, by its number, which the device keeps while it is open.
/// Path names are built on demand, since there may be very many of these.
#[derive(Debug)]
pub(crate) struct Sysfs {
    /// Another root than /sys, for tests.
    root: Option<Box<PathBuf>>,
    major: u32,
    minor: u32,
    is_partition: bool,
    has_state: bool,
    /// The file with the target's access state; most devices have none.
    access: Option<Access>,
    pub(crate) has_iostats: bool,
    is_redundant: bool,
}

/// The unit of `size` (Documentation/ABI/stable/sysfs-block).
const SECTOR_BYTES: u64 = 512;

/// Which driver reports the access state of a path.
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
    /// The directory of device `major:minor`; `None` if it does not exist.
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
            has_iostats: true,
            is_redundant: false,
        };
        let own = found.device_dir();
        if !own.exists() {
            return None;
        }
        found.is_partition = own.join("partition").exists();
        let disk = found.disk_dir();
        let has = |name: &str| disk.join(name).exists();
        found.has_iostats = read_attr(&disk.join("queue/iostats")).as_deref() != Some("0");
        found.has_state = has("device/state");
        found.is_redundant = is_redundant(&disk);
        let mut accesses = [Access::Scsi, Access::Nvme].into_iter();
        found.access = accesses.find(|access| has(access.file()));
        Some(found)
    }

    /// The device's numbers: major and minor.
    pub(crate) fn number(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// The directory of udev's device database.
    pub(crate) fn udev_data(&self) -> PathBuf {
        match self.root.as_deref() {
            None => PathBuf::from("/run/udev/data"),
            Some(root) => root.join("udev"),
        }
    }

    /// The directory of the device itself.
    pub(crate) fn device_dir(&self) -> PathBuf {
        let root = self.root.as_deref().map_or(Path::new("/sys"), |root| root);
        root.join(format!("dev/block/{}:{}", self.major, self.minor))
    }

    /// The directory of the whole disk. Tags and states belong to the disk, not to its partitions.
    pub(crate) fn disk_dir(&self) -> PathBuf {
        let mut folder = self.device_dir();
        if self.is_partition {
            // The parent of the directory that the number is a link to.
            folder.push("..");
        }
        folder
    }

    /// Whether it is stacked: a map of device-mapper, md or bcache.
    pub(crate) fn is_stacked(&self) -> bool {
        is_stacked(&self.disk_dir())
    }

    /// The state of the connection to the device, in the words of its driver.
    pub(crate) fn state(&self) -> Option<String> {
        // Most devices have none; for these no path name is built.
        let state = self
            .has_state
            .then(|| self.disk_dir().join("device/state"))?;
        read_attr(&state)
    }

    /// What the target reports about this path (ALUA, ANA), in the words of the driver.
    pub(crate) fn access(&self) -> Option<String> {
        let file = self.access?.file();
        read_attr(&self.disk_dir().join(file))
    }
}

impl DeviceProbe for Sysfs {
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

    fn activity(&self) -> Option<Activity> {
        Some(activity_of(&self.disk_dir()))
    }

    fn is_redundant(&self) -> bool {
        self.is_redundant
    }

    fn is_throttled(&self) -> bool {
        limits_reads(|| numbers_of(&self.disk_dir()))
    }

    fn is_asleep(&self) -> bool {
        is_asleep(&self.disk_dir())
    }

    fn may_be_dirty(&self) -> bool {
        let sectors =
            read_attr(&self.device_dir().join("size")).and_then(|size| size.parse::<u64>().ok());
        let dirty = fs::read_to_string("/proc/meminfo").ok();
        let dirty = dirty.map(|text| dirty_bytes(&text));
        match (sectors, dirty) {
            (Some(sectors), Some(dirty)) => dirty.saturating_mul(2) >= sectors * SECTOR_BYTES,
            _ => true,
        }
    }

    fn is_gone(&self) -> bool {
        // The kernel sets the capacity of a device to 0 before it removes it (del_gendisk of
        // block/genhd.c and the drivers before they call it).
        read_attr(&self.device_dir().join("size")).is_none_or(|size| size == "0")
    }
}

/// The text of a file, trimmed. States and statistics fit into the buffer.
pub(crate) fn read_attr(path: &Path) -> Option<String> {
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

/// Access states without reads: of `sdev_access_states` of drivers/scsi/scsi_sysfs.c and
/// `nvme_ana_state_names` of drivers/nvme/host/multipath.c.
fn is_standby(state: &str) -> bool {
    matches!(
        state,
        "standby" | "unavailable" | "transitioning" | "inaccessible" | "persistent-loss" | "change"
    )
}

/// Number of bytes in page caches that are not on their devices yet (proc_meminfo(5)).
fn dirty_bytes(meminfo: &str) -> u64 {
    let lines = meminfo.lines().filter_map(|line| line.split_once(':'));
    let dirty = lines.filter(|(name, _)| matches!(*name, "Dirty" | "Writeback"));
    let kib = dirty.filter_map(|(_, value)| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.sum::<u64>() * 1024
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
    fn states_of_scsi_and_nvme_are_recognized() {
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
    fn a_disk_sleeps_when_the_kernel_has_suspended_it_or_one_below_it() {
        let with = |files: &[(&str, &str)]| {
            let root = tree(files);
            Sysfs::below(root.path(), 8, 0).expect("found").is_asleep()
        };
        for (status, sleeps) in [
            ("suspended\n", true),
            ("suspending\n", true),
            ("active\n", false),
            ("resuming\n", false),
            ("unsupported\n", false),
            ("error\n", false),
        ] {
            assert_eq!(
                with(&[("device/power/runtime_status", status)]),
                sleeps,
                "{status}"
            );
            let below = "slaves/sda/device/power/runtime_status";
            let awake = ("slaves/sdb/device/power/runtime_status", "active\n");
            assert_eq!(with(&[(below, status), awake]), sleeps, "{status}");
        }
        assert!(!with(&[("size", "8\n")]));
    }

    #[test]
    fn offline_takes_precedence_over_standby() {
        let both = [
            ("device/state", "offline\n"),
            ("device/access_state", "standby\n"),
        ];
        assert_eq!(link_with(&both), LinkState::Offline);
    }

    #[test]
    fn only_existing_devices_have_a_directory() {
        let root = tree(&[
            ("stat", "1 0 0 0 0 0 0 0 1 0 0\n"),
            ("queue/iostats", "0\n"),
        ]);
        let sysfs = Sysfs::below(root.path(), 8, 0).expect("found");
        assert!(!sysfs.has_iostats);
        assert_eq!(sysfs.activity(), Some(Activity::of_disk(None)));
        assert!(Sysfs::below(root.path(), 8, 1).is_none());
    }

    #[test]
    fn dirty_bytes_include_those_under_writeback() {
        let text = "MemFree: 10 kB\nDirty:    3 kB\nWriteback:  1 kB\nWritebackTmp: 9 kB\n";
        assert_eq!(dirty_bytes(text), 4096);
        assert_eq!(dirty_bytes(""), 0);
    }

    #[test]
    fn an_unlisted_device_or_one_without_size_is_gone() {
        let root = tree(&[("size", "2048\n")]);
        let sysfs = Sysfs::below(root.path(), 8, 0).expect("found");
        assert!(!sysfs.is_gone());
        fs::write(root.path().join("dev/block/8:0/size"), "0\n").expect("a file");
        assert!(sysfs.is_gone());
        fs::remove_dir_all(root.path().join("dev/block")).expect("removed");
        assert!(sysfs.is_gone());
    }
}
