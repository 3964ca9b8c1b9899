//! Opens a path and finds out how to read it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use pathpulse_kernel_compat::{Errno, MAX_READ_LEN, Submission};
use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, ioctl_blksszget, statx};

use crate::device::{
    DeviceId, DeviceInfo, Geometry, Identity, OpenProblem, Sysfs, Unbacked, bytes_on_device,
    map_of, submission_of,
};
use crate::health::{DeviceProbe, NoProbe};

/// An open path: how to read it, and what the kernel reports about it.
pub(crate) struct Device {
    pub(crate) identity: Identity,
    pub(crate) file: OwnedFd,
    pub(crate) geometry: Geometry,
    pub(crate) probe: Box<dyn DeviceProbe + Send>,
    /// Its names and where it is attached.
    pub(crate) details: DeviceInfo,
    /// The id that all paths to the same storage have in common, if the kernel knows it.
    pub(crate) storage: Option<String>,
    /// Whether it is stacked: a map of device-mapper or md.
    pub(crate) stacked: bool,
    /// Whether its driver may block the submitter. A thread of its own then reads it.
    pub(crate) submission: Submission,
}

/// What is known of an open device, without the file: what others need who do not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenedDevice {
    pub(crate) identity: Identity,
    pub(crate) storage: Option<String>,
    pub(crate) details: DeviceInfo,
    pub(crate) stacked: bool,
    /// Its driver may block whoever submits a read.
    pub(crate) may_block: bool,
}

impl Device {
    /// What is known of it.
    pub(crate) fn opened(&self) -> OpenedDevice {
        OpenedDevice {
            identity: self.identity,
            storage: self.storage.clone(),
            details: self.details.clone(),
            stacked: self.stacked,
            may_block: self.submission == Submission::MayBlock,
        }
    }

    /// Opens a path. Blocks for as long as the driver's open does; see `device/opener.rs`.
    pub(crate) fn open(path: &Path) -> Result<Device, OpenProblem> {
        Device::open_reporting(path, |_| {})
    }

    /// Like [`Device::open`], and reports what the name leads to before it opens it.
    pub(crate) fn open_reporting(
        path: &Path,
        tell: impl FnOnce(DeviceId),
    ) -> Result<Device, OpenProblem> {
        let file = open_direct(path, tell)?;
        keep_access_time(&file);
        let meta = file.metadata().map_err(|error| open_failed(&error))?;
        let is_block = meta.file_type().is_block_device();
        let geometry = geometry(&file, is_block)?;
        let identity = Identity::of_file(&file).map_err(OpenProblem::Open)?;
        let sysfs = match identity.device {
            DeviceId::Block { major, minor } => Sysfs::of(major, minor),
            DeviceId::File { .. } => None,
        };
        let details = match &sysfs {
            Some(sysfs) => DeviceInfo::of_disk(sysfs),
            None if is_block => DeviceInfo::default(),
            None => DeviceInfo::of_file(meta.len()),
        };
        let disk = sysfs.as_ref().map(Sysfs::disk_dir);
        // A map is not a path to the storage; its legs are.
        let is_leg = disk.as_ref().is_some_and(|disk| map_of(disk).is_none());
        let storage = details.wwid().filter(|_| is_leg).map(str::to_owned);
        let stacked = sysfs.as_ref().is_some_and(Sysfs::is_stacked);
        Ok(Device {
            identity,
            file: file.into(),
            geometry,
            probe: sysfs.map_or_else(|| Box::new(NoProbe) as _, |sysfs| Box::new(sysfs) as _),
            details,
            storage,
            stacked,
            submission: disk.as_deref().map_or(Submission::Prompt, submission_of),
        })
    }
}

/// Opens a block device or a regular file with `O_DIRECT`.
fn open_direct(path: &Path, tell: impl FnOnce(DeviceId)) -> Result<File, OpenProblem> {
    // Other kinds of files must not even be opened: a pipe would wait for its other end.
    let meta = std::fs::metadata(path).map_err(|error| open_failed(&error))?;
    let kind = meta.file_type();
    if !kind.is_block_device() && !kind.is_file() {
        return Err(OpenProblem::NotStorage);
    }
    tell(DeviceId::of(&meta));
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path);
    opened.map_err(|error| match open_failed(&error) {
        OpenProblem::Open(Errno::EINVAL) => OpenProblem::NoDirectIo,
        other => other,
    })
}

fn open_failed(error: &io::Error) -> OpenProblem {
    OpenProblem::Open(Errno::of(error))
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
    // The metadata of a block device has size 0; seeking to its end gives the size.
    let size = { file }
        .seek(SeekFrom::End(0))
        .map_err(|error| open_failed(&error))?;
    if size < u64::from(block) {
        return Err(OpenProblem::Empty { size, block });
    }
    // A file with gaps is read before the first gap only.
    let readable = match is_block {
        true => size,
        false => bytes_on_device(file, size, block).map_err(OpenProblem::Unbacked)?,
    };
    Ok(Geometry::new(block, readable / u64::from(block)))
}

/// Checks must not change the access time of a file, nor spend time on it. Only the owner of a file
/// may request this; without it the checks work all the same.
fn keep_access_time(file: &File) {
    if let Ok(flags) = fcntl_getfl(file) {
        let _ = fcntl_setfl(file, flags | OFlags::NOATIME);
    }
}

/// The alignment that O_DIRECT needs for a regular file (statx(2), STATX_DIOALIGN, Linux 6.1). If
/// the file system does not report it, a page, which is valid for all smaller block sizes. `None`
/// if the file system reports that it reads the file through the page cache.
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
    fn paths_that_are_not_storage_are_refused_with_the_reason() {
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
    fn a_file_with_gaps_is_read_before_its_first_gap() {
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
    fn a_check_keeps_the_access_time() {
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
}
