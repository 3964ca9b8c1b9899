//! What a name leads to: a device, or the devices that the file system lies on which has it.
//!
//! To look a name up may take as long as the file system that it lies on likes, and who waits there
//! can't always be ended. So it is done by a process of its own ([`look_apart`]), which nobody
//! waits for longer than for its word. It reads metadata, mountinfo and sysfs, and opens nothing.

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

/// Processes that look names up at a time, those included that their file systems do not let go.
const AT_A_TIME: usize = 16;
/// Devices lie on devices, but not on so many.
const DEPTH_MAX: usize = 16;

/// A device, or the file or folder that was looked up, and what it lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// `None` for a folder.
    device: Option<Device>,
    /// Of a file or a folder the type of its file system, if that lies on no device that is known.
    pub(crate) file_system: Option<String>,
    /// Where its blocks are: of a partition its disk, of a map what it is made of, of a file or a
    /// folder the devices of its file system.
    pub(crate) on: Vec<Found>,
}

/// [`DeviceId`], to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Device {
    Block(u32, u32),
    File(u64, u64),
}

impl Found {
    /// What makes it the same as a path that is watched.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.device.map(|device| match device {
            Device::Block(major, minor) => DeviceId::Block { major, minor },
            Device::File(filesystem, inode) => DeviceId::File { filesystem, inode },
        })
    }

    /// The node of a block device in `/dev`, as the kernel calls it.
    pub(crate) fn node(&self) -> Option<PathBuf> {
        let Some(Device::Block(major, minor)) = self.device else {
            return None;
        };
        let folder = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        // A name with a slash, such as cciss/c0d0, has an exclamation mark for it in sysfs.
        let name = folder.file_name()?.as_bytes().iter();
        let name: Vec<u8> = name
            .map(|byte| if *byte == b'!' { b'/' } else { *byte })
            .collect();
        Some(Path::new("/dev").join(path_of(&name)))
    }

    /// The nearest of these devices that `known` knows, on each of the ways down.
    pub(crate) fn nearest<T>(&self, known: &impl Fn(DeviceId) -> Option<T>) -> Vec<T> {
        match self.device().and_then(known) {
            Some(one) => vec![one],
            None => self.on.iter().flat_map(|on| on.nearest(known)).collect(),
        }
    }
}

/// Why it is not known what a name leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unknown {
    /// The kernel says so.
    Said(String),
    /// No word in time.
    Silent,
    /// Other look-ups have to end first.
    Busy,
}

/// Looks a name up, on this thread, for as long as that takes.
pub(crate) fn look(name: &Path) -> Result<Found, Unknown> {
    let said = |error: io::Error| Unknown::Said(error.to_string());
    let meta = fs::metadata(name).map_err(said)?;
    if meta.file_type().is_block_device() {
        return Ok(block(meta.rdev(), DEPTH_MAX));
    }
    let (on, file_system) = devices_under(name, &meta).map_err(said)?;
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

/// The numbers of the block devices that the file system lies on which a file or a folder is in;
/// none, if it lies on none. And its type, where that had to be looked up.
fn devices_under(name: &Path, meta: &Metadata) -> io::Result<(Vec<u64>, Option<String>)> {
    let number = meta.dev();
    if major(number) != 0 {
        return Ok((vec![number], None));
    }
    // btrfs and its kin have numbers of their own; what they were mounted from says more.
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

/// The mount that has this (absolute, without links).
fn mount_of(mountinfo: &[u8], name: &Path) -> Option<Mount> {
    let mounts = mountinfo.split(|byte| *byte == b'\n');
    let mounts = mounts.filter_map(Mount::parse);
    // Of several on the same point the last hides the others.
    let over = mounts.filter(|mount| name.starts_with(path_of(&mount.place)));
    over.max_by_key(|mount| mount.place.len())
}

/// The names of the devices that a mount is from.
fn sources(mount: &Mount) -> impl Iterator<Item = PathBuf> {
    let devices = mount.devices.iter();
    let devices = devices.map(|name| Path::new("/dev").join(path_of(name)));
    // A node elsewhere.
    let other = Some(path_of(&mount.source).to_path_buf());
    let other = other.filter(|source| mount.devices.is_empty() && source.is_absolute());
    devices.chain(other)
}

fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// All devices of the btrfs that this one is of.
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

/// A block device and what it lies on.
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

/// The devices below that with this folder in sysfs: of a partition its disk, of a map its parts.
fn lies_on(folder: &Path) -> Vec<u64> {
    if folder.join("partition").exists() {
        // The folder of a partition is in that of its disk.
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

/// The work of the process: what it prints is for [`look_apart`].
pub(crate) fn answer(name: &Path) -> String {
    serde_json::to_string(&look(name)).unwrap_or_default()
}

/// Has a name looked up by another process, and waits so long for its word. That process ends when
/// it is let; as long as too many do not, there are no more.
pub(crate) fn look_apart(name: &Path, limit: Duration) -> Result<Found, Unknown> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    let end = Instant::now() + limit;
    let more = |running: usize| (running < AT_A_TIME).then_some(running + 1);
    if RUNNING.fetch_update(Relaxed, Relaxed, more).is_err() {
        return Err(Unknown::Busy);
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
        Unknown::Said(format!("starting a process: {error}"))
    })?;
    let word = read_until(&mut child, end);
    let _ = child.kill();
    // It may be in the kernel for as long as a device likes.
    let reaper = std::thread::Builder::new().name("pathpulse-reap".to_owned());
    let reaped = reaper.spawn(move || {
        let _ = child.wait();
        RUNNING.fetch_sub(1, Relaxed);
    });
    if reaped.is_err() {
        RUNNING.fetch_sub(1, Relaxed);
    }
    let word = word.ok_or(Unknown::Silent)?;
    let died = |_| {
        Err(Unknown::Said(
            "the process that looks it up died".to_owned(),
        ))
    };
    serde_json::from_slice(&word).unwrap_or_else(died)
}

/// All that a process prints, if it ends its output in time.
fn read_until(child: &mut Child, end: Instant) -> Option<Vec<u8>> {
    let mut stdout = child.stdout.take()?;
    let mut word = Vec::new();
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
            Ok(0) => return Some(word),
            Ok(read) => word.extend_from_slice(&piece[..read]),
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
