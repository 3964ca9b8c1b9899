//! What a name leads to: a device, or the devices below the file system of a file or folder.
//!
//! Looking up a name takes as long as its file system takes, and a process that waits there can't
//! always be ended. So another process does it ([`look_up_in_subprocess`]), and the caller waits
//! for a limited time. The process reads metadata, mountinfo and sysfs, and opens nothing.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pathpulse::DeviceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{major, minor};
use serde::{Deserialize, Serialize};

use crate::daemon::discovery::mounts::Mount;

/// Look-up processes at the same time, including those that their file systems do not release.
const CONCURRENT_MAX: usize = 16;
/// The depth of devices below devices.
const DEPTH_MAX: usize = 16;

/// A device, or a file or folder, and the devices below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// `None` for a folder.
    device: Option<Device>,
    /// The type of the file system of a file or folder, if the devices below it are unknown.
    pub(crate) file_system: Option<String>,
    /// Where its blocks are: the disk of a partition, the parts of a map, the devices of the file
    /// system of a file or folder.
    pub(crate) on: Vec<Found>,
}

/// [`DeviceId`], for serialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Device {
    Block(u32, u32),
    File(u64, u64),
}

impl Found {
    /// The identity that it shares with a watched path.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.device.map(|device| match device {
            Device::Block(major, minor) => DeviceId::Block { major, minor },
            Device::File(filesystem, inode) => DeviceId::File { filesystem, inode },
        })
    }

    /// The node of a block device in `/dev`, by its kernel name.
    pub(crate) fn node(&self) -> Option<PathBuf> {
        let Some(Device::Block(major, minor)) = self.device else {
            return None;
        };
        let folder = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        // sysfs writes a slash in a name, such as cciss/c0d0, as an exclamation mark.
        let name = folder.file_name()?.as_bytes().iter();
        let name: Vec<u8> = name
            .map(|byte| if *byte == b'!' { b'/' } else { *byte })
            .collect();
        Some(Path::new("/dev").join(path_of(&name)))
    }

    /// The nearest of these devices that `known` knows, on each way down.
    pub(crate) fn nearest<T>(&self, known: &impl Fn(DeviceId) -> Option<T>) -> Vec<T> {
        match self.device().and_then(known) {
            Some(one) => vec![one],
            None => self.on.iter().flat_map(|on| on.nearest(known)).collect(),
        }
    }
}

/// Why the target of a name is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LookupError {
    /// The kernel reported an error.
    Failed(String),
    /// No answer in time.
    TimedOut,
    /// Too many look-ups are running.
    Busy,
}

/// Looks up a name on this thread, without a time limit.
pub(crate) fn look_up(name: &Path) -> Result<Found, LookupError> {
    let failed = |error: io::Error| LookupError::Failed(error.to_string());
    let meta = fs::metadata(name).map_err(failed)?;
    if meta.file_type().is_block_device() {
        return Ok(block(meta.rdev(), DEPTH_MAX));
    }
    let (on, file_system) = devices_under(name, &meta).map_err(failed)?;
    let is_file = meta.file_type().is_file();
    Ok(Found {
        file_system: file_system.filter(|_| on.is_empty()),
        device: is_file.then(|| Device::File(meta.dev(), meta.ino())),
        on: on
            .into_iter()
            .map(|number| block(number, DEPTH_MAX))
            .collect(),
    })
}

/// The numbers of the block devices of the file system of a file or folder; none if there are none.
/// And the type of the file system, where that had to be looked up.
fn devices_under(name: &Path, meta: &Metadata) -> io::Result<(Vec<u64>, Option<String>)> {
    let number = meta.dev();
    if major(number) != 0 {
        return Ok((vec![number], None));
    }
    // btrfs and similar file systems have device numbers of their own; their source says more.
    let name = fs::canonicalize(name)?;
    let Some(mount) = mount_of(&fs::read("/proc/self/mountinfo")?, &name) else {
        return Ok((Vec::new(), None));
    };
    let mut numbers: Vec<u64> = sources(&mount)
        .filter_map(|source| fs::metadata(source).ok())
        .filter(|meta| meta.file_type().is_block_device())
        .map(|meta| meta.rdev())
        .collect();
    if let [one] = numbers[..] {
        let members = btrfs_members(Path::new("/sys/fs/btrfs"), one);
        numbers = members.unwrap_or(numbers);
    }
    let kind = String::from_utf8_lossy(&mount.kind).into_owned();
    Ok((numbers, Some(kind)))
}

/// The mount of this name (absolute, without links).
fn mount_of(mountinfo: &[u8], name: &Path) -> Option<Mount> {
    let mounts = mountinfo.split(|byte| *byte == b'\n');
    let mounts = mounts.filter_map(Mount::parse);
    // Of several mounts on the same point, the last one hides the others.
    let over = mounts.filter(|mount| name.starts_with(path_of(&mount.place)));
    over.max_by_key(|mount| mount.place.len())
}

/// The names of the devices in the source of a mount.
fn sources(mount: &Mount) -> impl Iterator<Item = PathBuf> {
    let devices = mount.devices.iter();
    let devices = devices.map(|name| Path::new("/dev").join(path_of(name)));
    // A device node outside `/dev`.
    let other = Some(path_of(&mount.source).to_path_buf());
    let other = other.filter(|source| mount.devices.is_empty() && source.is_absolute());
    devices.chain(other)
}

fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// All devices of the btrfs that this device belongs to.
fn btrfs_members(btrfs: &Path, number: u64) -> Option<Vec<u64>> {
    let mut all = fs::read_dir(btrfs).ok()?.flatten().map(|entry| {
        let members = fs::read_dir(entry.path().join("devices"))
            .into_iter()
            .flatten();
        let numbers = members
            .flatten()
            .filter_map(|member| number_in(&member.path()));
        numbers.collect::<Vec<_>>()
    });
    all.find(|numbers| numbers.contains(&number))
}

/// The number of the device with this folder in sysfs.
fn number_in(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    ))
}

/// A block device and the devices below it.
fn block(number: u64, depth: usize) -> Found {
    let (major, minor) = (major(number), minor(number));
    let folder = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    Found {
        device: Some(Device::Block(major, minor)),
        file_system: None,
        on: match depth {
            0 => Vec::new(),
            _ => lies_on(&folder)
                .into_iter()
                .map(|number| block(number, depth - 1))
                .collect(),
        },
    }
}

/// The devices below the device with this folder in sysfs: the disk of a partition, the parts of a
/// map.
fn lies_on(folder: &Path) -> Vec<u64> {
    if folder.join("partition").exists() {
        // The folder of a partition is in the folder of its disk.
        let real = fs::canonicalize(folder).unwrap_or_default();
        return real.parent().and_then(number_in).into_iter().collect();
    }
    let slaves = fs::read_dir(folder.join("slaves")).into_iter().flatten();
    let mut numbers: Vec<u64> = slaves
        .flatten()
        .filter_map(|slave| number_in(&slave.path()))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The work of the look-up process: the output is for [`look_up_in_subprocess`].
pub(crate) fn answer(name: &Path) -> String {
    serde_json::to_string(&look_up(name)).unwrap_or_default()
}

/// Looks up a name in another process and waits up to `limit`. The process ends when its file
/// system releases it; while too many don't end, no other one is started.
pub(crate) fn look_up_in_subprocess(name: &Path, limit: Duration) -> Result<Found, LookupError> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    let end = Instant::now() + limit;
    let more = |running: usize| (running < CONCURRENT_MAX).then_some(running + 1);
    if RUNNING.fetch_update(Relaxed, Relaxed, more).is_err() {
        return Err(LookupError::Busy);
    }
    let started = Command::new("/proc/self/exe")
        .args([OsStr::new("look-up"), OsStr::new("--"), name.as_os_str()])
        .env_clear()
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = started.map_err(|error| {
        RUNNING.fetch_sub(1, Relaxed);
        LookupError::Failed(format!("starting a process: {error}"))
    })?;
    let output = read_until(&mut child, end);
    let _ = child.kill();
    // It may stay in the kernel as long as a device does not answer.
    let reaper = std::thread::Builder::new().name("pathpulse-reap".to_owned());
    let reaped = reaper.spawn(move || {
        let _ = child.wait();
        RUNNING.fetch_sub(1, Relaxed);
    });
    if reaped.is_err() {
        RUNNING.fetch_sub(1, Relaxed);
    }
    let output = output.ok_or(LookupError::TimedOut)?;
    let died = |_| Err(LookupError::Failed("the look-up process died".to_owned()));
    serde_json::from_slice(&output).unwrap_or_else(died)
}

/// All output of a process, if the output ends in time.
fn read_until(child: &mut Child, end: Instant) -> Option<Vec<u8>> {
    let mut stdout = child.stdout.take()?;
    let mut output = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(1..) => {}
            Err(rustix::io::Errno::INTR) => continue,
            _ => return None,
        }
        match stdout.read(&mut piece) {
            Ok(0) => return Some(output),
            Ok(read) => output.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_mount_that_a_name_lies_on_is_the_longest_and_the_last() {
        let mountinfo = b"21 1 0:5 / / rw - btrfs /dev/sda2 rw\n\
            22 21 0:6 / /mnt/a\\040b\xff rw shared:1 - btrfs /dev/sdb rw\n\
            23 21 0:7 / /mnt/x rw - ext4 /dev/sdc rw\n24 21 0:8 / /mnt/x rw - ext4 /dev/sdd rw\n\
            25 21 0:9 / /net rw - nfs4 server:/x rw\n\
            26 21 0:10 / /pool rw - bcachefs /dev/sde:/dev/sdf rw\n27 21 0:11 / /odd rw - btrfs /nodes/sdg rw\n";
        let all = |name: &[u8]| {
            let mount = mount_of(mountinfo, path_of(name)).expect("a mount");
            sources(&mount).collect::<Vec<PathBuf>>()
        };
        let of = |name: &[u8]| all(name).first().cloned();
        assert_eq!(of(b"/var/lib"), Some("/dev/sda2".into()));
        assert_eq!(of(b"/mnt/a b\xff/c"), Some("/dev/sdb".into()));
        assert_eq!(of(b"/mnt/x"), Some("/dev/sdd".into()));
        assert_eq!(of(b"/mnt/xy"), Some("/dev/sda2".into()));
        assert_eq!(of(b"/net/file"), None);
        assert_eq!(of(b"/odd/file"), Some("/nodes/sdg".into()));
        assert_eq!(
            all(b"/pool"),
            [Path::new("/dev/sde"), Path::new("/dev/sdf")]
        );
    }

    #[test]
    fn maps_lie_on_their_parts_and_partitions_on_their_disks() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = |name: &str, number: &str| {
            let folder = root.path().join(name);
            fs::create_dir_all(folder.join("slaves")).expect("folders");
            fs::write(folder.join("dev"), number).expect("a file");
            folder
        };
        let (map, disk) = (folder("dm-0", "253:0\n"), folder("sda", "8:0\n"));
        let part = folder("sda/sda1", "8:1\n");
        let other = folder("sdb", "8:16\n");
        fs::write(part.join("partition"), "1\n").expect("a file");
        symlink(&part, map.join("slaves/sda1")).expect("a link");
        symlink(&other, map.join("slaves/sdb")).expect("a link");
        let number = |minor| rustix::fs::makedev(8, minor);
        assert_eq!(lies_on(&map), [number(1), number(16)]);
        assert_eq!(lies_on(&part), [number(0)]);
        assert!(lies_on(&disk).is_empty());
    }

    #[test]
    fn the_nearest_known_device_stands_for_what_it_lies_on() {
        let leaf = |minor| Found {
            device: Some(Device::Block(8, minor)),
            file_system: None,
            on: Vec::new(),
        };
        let map = Found {
            device: Some(Device::Block(253, 0)),
            file_system: None,
            on: vec![leaf(0), leaf(16)],
        };
        let folder = Found {
            device: None,
            file_system: None,
            on: vec![map],
        };
        let known = |majors: &'static [u32]| {
            move |id| match id {
                DeviceId::Block { major, minor } if majors.contains(&major) => Some(minor),
                _ => None,
            }
        };
        assert_eq!(folder.nearest(&known(&[8])), [0, 16]);
        assert_eq!(folder.nearest(&known(&[8, 253])), [0]);
        assert!(folder.nearest(&known(&[])).is_empty());
    }
}
