//! Opening what a path names, and learning how to read it.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pathpulse_kernel_compat::{Errno, MAX_READ_LEN, Submission};
use rustix::fs::{
    AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, ioctl_blksszget, major, minor, statx,
};

use crate::device::{
    DeviceInfo, Identity, Sysfs, Unbacked, bytes_on_device, display_name, map_of, submission_of,
};
use crate::health::{DeviceProbe, NoProbe, open_blames_device, open_fell_short};
use crate::settings::{Place, Region};

/// What makes two names the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// A block device.
    Block {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A file within a file system.
    File {
        /// The file system's device number.
        filesystem: u64,
        /// The file's inode number.
        inode: u64,
    },
}

impl DeviceId {
    /// Of what has this metadata.
    pub(crate) fn of(meta: &Metadata) -> DeviceId {
        if meta.file_type().is_block_device() {
            DeviceId::Block {
                major: major(meta.rdev()),
                minor: minor(meta.rdev()),
            }
        } else {
            DeviceId::File {
                filesystem: meta.dev(),
                inode: meta.ino(),
            }
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceId::Block { major, minor } => write!(f, "{major}:{minor}"),
            DeviceId::File { filesystem, inode } => write!(f, "file {filesystem:x}:{inode}"),
        }
    }
}

/// Why a path can't be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// As it was named.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: OpenProblem,
}

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenProblem {
    /// open(2) said so.
    Open(Errno),
    /// A folder, a terminal, a pipe: nothing that has blocks.
    NotStorage,
    /// The file or its file system does not take `O_DIRECT`.
    NoDirectIo,
    /// Not even one block long.
    Empty {
        /// Its size in bytes.
        size: u64,
        /// Its logical block size in bytes.
        block: u32,
    },
    /// Its logical block size is none that a check can read.
    BlockSize(u32),
    /// A read of this file would be answered without its device.
    Unbacked(Unbacked),
    /// The same device was named before, perhaps by another name.
    Twice {
        /// Its other name.
        first: PathBuf,
    },
    /// open(2) did not return in time.
    Blocked,
    /// The monitor was shut down.
    Closed,
}

impl OpenProblem {
    /// The errno that it came from.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            OpenProblem::Open(errno) => Some(*errno),
            OpenProblem::NoDirectIo => Some(Errno::EINVAL),
            _ => None,
        }
    }

    /// Whether the way to the device is why, not its name, our rights or our limits, nor a condition
    /// of the device that the way to it has no part in, such as an empty drive.
    pub fn blames_device(&self) -> bool {
        match self {
            OpenProblem::Open(errno) => open_blames_device(*errno),
            OpenProblem::Blocked => true,
            _ => false,
        }
    }

    /// Whether the kernel said something about the device: it is there, and was asked.
    pub fn reached_device(&self) -> bool {
        match self {
            OpenProblem::Open(errno) => !open_fell_short(*errno),
            OpenProblem::Blocked => true,
            _ => false,
        }
    }
}

/// How a file comes to have its data on a disk, in whole blocks, as it is.
const WRITE_IT: &str =
    "write it anew: dd if=/dev/urandom of=FILE bs=1M count=1 oflag=direct conv=fsync";

impl fmt::Display for OpenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenProblem::Open(errno) => {
                write!(f, "open: {errno}: {}", errno.meaning())?;
                match errno.hint() {
                    Some(hint) => write!(f, "; {hint}"),
                    None => Ok(()),
                }
            }
            OpenProblem::NotStorage => f.write_str("neither a block device nor a regular file"),
            OpenProblem::NoDirectIo => f.write_str(
                "open: EINVAL: does not take O_DIRECT; name the block device, or a file on a disk file system",
            ),
            OpenProblem::Empty { size: 0, .. } => write!(
                f,
                "is empty: a device of size 0 has no block to read; if it is a file, {WRITE_IT}"
            ),
            OpenProblem::Empty { size, block } => write!(
                f,
                "has {size} bytes, less than its logical block of {block}; if it is a file, {WRITE_IT}"
            ),
            OpenProblem::Unbacked(why) => write!(
                f,
                "a read of this file would not get to its disk: {why}; {}",
                match why {
                    Unbacked::Buffered => "name another file, or the block device",
                    _ => WRITE_IT,
                }
            ),
            OpenProblem::BlockSize(block) => write!(
                f,
                "has a logical block of {block} bytes; 512 to 131072 can be read"
            ),
            OpenProblem::Twice { first } => write!(
                f,
                "named twice: it is the same device as {}, which is watched",
                display_name(first)
            ),
            OpenProblem::Blocked => f.write_str("open did not return in time"),
            OpenProblem::Closed => f.write_str("the monitor was shut down"),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", display_name(&self.path), self.problem)
    }
}

impl std::error::Error for OpenError {}

/// An open path: how to read it, and what the kernel says about it.
pub(crate) struct Device {
    pub(crate) identity: Identity,
    pub(crate) file: OwnedFd,
    pub(crate) geometry: Geometry,
    pub(crate) evidence: Box<dyn DeviceProbe + Send>,
    /// What it is called and where it is attached.
    pub(crate) details: DeviceInfo,
    /// What the paths to the same storage have in common, if the kernel knows.
    pub(crate) storage: Option<String>,
    /// It lies on other devices: a map of device-mapper or md.
    pub(crate) stacked: bool,
    /// Whether its driver may block who submits: then a thread of its own reads it.
    pub(crate) submission: Submission,
}

/// What of a device is read: whole logical blocks, the unit of `O_DIRECT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of one logical block, a power of two.
    pub(crate) block: u32,
    /// Whole blocks on the device, at least 1.
    pub(crate) blocks: u64,
    /// Bytes that a check reads: one block or more.
    pub(crate) len: u32,
    region: Region,
}

impl Geometry {
    /// Reads one block at the beginning.
    pub(crate) fn new(block: u32, blocks: u64) -> Geometry {
        Geometry {
            block,
            blocks,
            len: block,
            region: Region::default(),
        }
    }

    /// The same device, read as this says.
    pub(crate) fn reading(self, region: Region) -> Geometry {
        let most = MAX_READ_LEN.min(
            u32::try_from(self.blocks)
                .map_or(MAX_READ_LEN, |blocks| blocks.saturating_mul(self.block)),
        );
        let whole = region
            .len_bytes
            .min(MAX_READ_LEN)
            .next_multiple_of(self.block);
        Geometry {
            len: whole.clamp(self.block, most / self.block * self.block),
            region,
            ..self
        }
    }

    /// What it was asked to read.
    pub(crate) fn region(&self) -> Region {
        self.region
    }

    /// The offset of the first read of the `turn`th check.
    pub(crate) fn offset(&self, turn: u32) -> u64 {
        match self.region.place {
            Place::First => 0,
            Place::Last => (self.starts() - 1) * u64::from(self.block),
            Place::Rotating => self.elsewhere(turn),
        }
    }

    /// An offset that is another one for each number, and lies anywhere.
    pub(crate) fn elsewhere(&self, number: u32) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let turn = u128::from(u64::from(number).wrapping_mul(GOLDEN));
        let block = (turn * u128::from(self.starts())) >> 64;
        block as u64 * u64::from(self.block)
    }

    /// Blocks that a read can begin with.
    fn starts(&self) -> u64 {
        self.blocks - u64::from(self.len / self.block) + 1
    }
}

impl Device {
    /// Opens a path. May take as long as the driver's open does; see `device/opener.rs`.
    pub(crate) fn open(path: &Path) -> Result<Device, OpenProblem> {
        Device::open_telling(path, |_| {})
    }

    /// As [`Device::open`], and tells what the name leads to before that is opened.
    pub(crate) fn open_telling(
        path: &Path,
        tell: impl FnOnce(DeviceId),
    ) -> Result<Device, OpenProblem> {
        let problem = |error: io::Error| OpenProblem::Open(Errno::of(&error));
        // What is no storage must not even be opened: a pipe would wait for its other end.
        let meta = std::fs::metadata(path).map_err(problem)?;
        let kind = meta.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(OpenProblem::NotStorage);
        }
        tell(DeviceId::of(&meta));
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .map_err(|error| match problem(error) {
                OpenProblem::Open(Errno::EINVAL) => OpenProblem::NoDirectIo,
                other => other,
            })?;
        spare_access_time(&file);
        let meta = file.metadata().map_err(problem)?;
        let is_block = meta.file_type().is_block_device();
        let geometry = geometry(&file, is_block)?;
        let identity = Identity::of_file(&file).map_err(OpenProblem::Open)?;
        let id = identity.device;
        let sysfs = match id {
            DeviceId::Block { major, minor } => Sysfs::of(major, minor),
            DeviceId::File { .. } => None,
        };
        let details = match &sysfs {
            Some(sysfs) => DeviceInfo::of_disk(sysfs),
            None if is_block => DeviceInfo::default(),
            None => DeviceInfo::of_file(meta.len()),
        };
        let disk = sysfs.as_ref().map(Sysfs::disk);
        // A map is no path to the storage: its legs are.
        let is_leg = disk.as_ref().is_some_and(|disk| map_of(disk).is_none());
        let storage = details.wwid().filter(|_| is_leg).map(str::to_owned);
        let submission = disk.as_deref().map_or(Submission::Prompt, submission_of);
        let stacked = sysfs.as_ref().is_some_and(Sysfs::is_stacked);
        let evidence: Box<dyn DeviceProbe + Send> = match sysfs {
            Some(sysfs) => Box::new(sysfs),
            None => Box::new(NoProbe),
        };
        Ok(Device {
            identity,
            file: file.into(),
            geometry,
            evidence,
            details,
            storage,
            stacked,
            submission,
        })
    }
}

fn geometry(file: &File, is_block: bool) -> Result<Geometry, OpenProblem> {
    let block = if is_block {
        ioctl_blksszget(file).map_err(|errno| OpenProblem::Open(errno.into()))?
    } else {
        let here = Path::new("");
        file_alignment(file, here, AtFlags::EMPTY_PATH)
            .ok_or(OpenProblem::Unbacked(Unbacked::Buffered))?
    };
    if !block.is_power_of_two() || !(512..=MAX_READ_LEN).contains(&block) {
        return Err(OpenProblem::BlockSize(block));
    }
    // The size of a block device is where its end is; its metadata says 0.
    let size = { file }
        .seek(SeekFrom::End(0))
        .map_err(|error| OpenProblem::Open(Errno::of(&error)))?;
    if size < u64::from(block) {
        return Err(OpenProblem::Empty { size, block });
    }
    // Of a file that has gaps what is before the first one is read.
    let readable = match is_block {
        true => size,
        false => bytes_on_device(file, size, block).map_err(OpenProblem::Unbacked)?,
    };
    Ok(Geometry::new(block, readable / u64::from(block)))
}

/// A check is no use of a file: its time of access stays, and no read costs a look at it. Whoever does not own
/// the file may not ask for that, and checks all the same.
fn spare_access_time(file: &File) {
    if let Ok(flags) = fcntl_getfl(file) {
        let _ = fcntl_setfl(file, flags | OFlags::NOATIME);
    }
}

/// What O_DIRECT wants of a regular file (statx(2), STATX_DIOALIGN, Linux 6.1); a page where the
/// file system does not say, which suits all that have smaller blocks; `None` if it says that the file is
/// read through the page cache all the same.
pub(crate) fn file_alignment(folder: impl AsFd, path: &Path, flags: AtFlags) -> Option<u32> {
    const UNKNOWN: u32 = 4096;
    let Ok(stat) = statx(folder, path, flags, StatxFlags::DIOALIGN) else {
        return Some(UNKNOWN);
    };
    let is_known = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    match (is_known, stat.stx_dio_offset_align) {
        (false, _) => Some(UNKNOWN),
        (true, 0) => None,
        (true, align) => Some(align.max(512)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::State;
    use crate::sweep::Sweep;
    use pathpulse_kernel_compat::Choice;
    use std::fs::FileTimes;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    fn problem(path: &Path) -> OpenProblem {
        Device::open(path).err().expect("should not open")
    }

    #[test]
    fn what_is_no_storage_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(problem(folder.path()), OpenProblem::NotStorage);
        assert_eq!(problem(Path::new("/dev/null")), OpenProblem::NotStorage);
        let missing = folder.path().join("missing");
        assert_eq!(problem(&missing), OpenProblem::Open(Errno::ENOENT));
        let turning = folder.path().join("loop");
        symlink(&turning, &turning).expect("a link");
        assert_eq!(problem(&turning), OpenProblem::Open(Errno::ELOOP));
        assert_eq!(problem(Path::new("/proc/version")), OpenProblem::NoDirectIo);
    }

    #[test]
    fn who_forbids_it_is_named() {
        let said = |errno| OpenProblem::Open(errno).to_string();
        let (rules, rights) = (said(Errno::EPERM), said(Errno::EACCES));
        assert!(rules.contains("device cgroup") && !rules.contains("run as root"));
        assert!(rights.contains("run as root") && !rights.contains("container"));
    }

    #[test]
    fn a_file_has_an_identity_a_size_and_a_block() {
        let folder = tempfile::tempdir_in(".").expect("a folder");
        let (one, link) = (folder.path().join("one"), folder.path().join("link"));
        std::fs::write(&one, vec![0u8; 16_384]).expect("a file");
        symlink("one", &link).expect("a link");
        let device = Device::open(&one).expect("opens");
        assert_eq!(
            device.geometry.blocks * u64::from(device.geometry.block),
            16_384
        );
        let linked = Device::open(&link).expect("opens");
        assert_eq!(device.identity, linked.identity);
        std::fs::write(&one, b"short").expect("a file");
        let problem = problem(&one);
        assert!(
            matches!(problem, OpenProblem::Empty { size: 5, .. }),
            "{problem:?}"
        );
    }

    #[test]
    fn of_a_file_with_gaps_what_is_before_the_first_one_is_read() {
        let folder = tempfile::tempdir_in(".").expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, vec![0xA5; 8192]).expect("a file");
        let file = File::options().write(true).open(&path).expect("opens");
        file.set_len(1 << 30).expect("sized");
        file.sync_all().expect("synced");
        let geometry = Device::open(&path).expect("opens").geometry;
        assert_eq!(geometry.blocks * u64::from(geometry.block), 8192);
        file.set_len(0).expect("emptied");
        file.set_len(1 << 30).expect("sized");
        assert_eq!(problem(&path), OpenProblem::Unbacked(Unbacked::Hole));
    }

    #[test]
    fn a_check_leaves_the_time_of_access_alone() {
        let folder = tempfile::tempdir_in(".").expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, vec![0u8; 16_384]).expect("a file");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let file = File::options().write(true).open(&path).expect("opens");
        file.set_times(FileTimes::new().set_accessed(old))
            .expect("set");
        let accessed = || std::fs::metadata(&path).expect("it is there").accessed();
        let paths = std::slice::from_ref(&path);
        let sweep = Sweep::new(paths, Duration::from_secs(10), Choice::Auto).expect("opens");
        assert!(sweep.status().all(|path| path.state == State::Up));
        assert_eq!(accessed().expect("known"), old);
    }

    #[test]
    fn reads_are_whole_blocks_that_lie_on_the_device() {
        let places = [Place::First, Place::Last, Place::Rotating];
        for (blocks, len_bytes, len) in [
            (1, 0, 512),
            (1, 4096, 512),
            (2, 1, 512),
            (1000, 4097, 4608),
            (1 << 40, u32::MAX, MAX_READ_LEN),
        ] {
            for place in places {
                let geometry = Geometry::new(512, blocks).reading(Region { place, len_bytes });
                assert_eq!(geometry.len, len);
                for turn in 0..100 {
                    for offset in [geometry.offset(turn), geometry.elsewhere(turn)] {
                        assert!(offset.is_multiple_of(512));
                        assert!(offset + u64::from(len) <= blocks * 512);
                    }
                }
            }
        }
    }

    #[test]
    fn the_places_are_the_beginning_the_end_and_all_over() {
        let reading = |place| {
            let geometry = Geometry::new(4096, 1000).reading(Region {
                place,
                len_bytes: 8192,
            });
            (0..100).map(move |turn| geometry.offset(turn)).collect()
        };
        let first: Vec<u64> = reading(Place::First);
        assert!(first.iter().all(|offset| *offset == 0));
        let last: Vec<u64> = reading(Place::Last);
        assert!(last.iter().all(|offset| *offset == 998 * 4096));
        let mut tenths: Vec<u64> = reading(Place::Rotating);
        for offset in &mut tenths {
            *offset = *offset * 10 / (999 * 4096);
        }
        tenths.sort_unstable();
        tenths.dedup();
        assert_eq!(tenths.len(), 10, "every tenth of the device is visited");
    }
}
