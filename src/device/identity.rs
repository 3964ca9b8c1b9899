//! Whether a name still leads to the object that was opened, without opening it.
//!
//! The kernel reuses numbers: those of a block device for a later one, those of a file system when
//! it is mounted again. It also counts both: disks by `diskseq` (sysfs, Linux 5.15; it changes with
//! each file that a loop device gets), mounts by a unique number (statx(2), `STATX_MNT_ID_UNIQUE`,
//! Linux 6.8).

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use pathpulse_kernel_compat::Errno;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};

use crate::device::DeviceId;

/// `STATX_MNT_ID_UNIQUE` of include/uapi/linux/stat.h.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Identity of the object that a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: DeviceId,
    /// Distinguishes objects that had the same number one after the other; `None` if the kernel
    /// does not count them.
    pub(crate) generation: Option<u64>,
}

/// Result of comparing the object that a name leads to with the one that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same,
    /// The same number, but possibly another object: the kernel does not count them.
    SameNumber,
    Different,
}

impl Identity {
    /// Looks up a name. Blocks for as long as its file system does.
    pub(crate) fn of_name(name: &Path) -> Result<Identity, Errno> {
        Identity::of(CWD, name, AtFlags::empty())
    }

    /// Identity of an open file.
    pub(crate) fn of_file(file: &File) -> Result<Identity, Errno> {
        Identity::of(file, Path::new(""), AtFlags::EMPTY_PATH)
    }

    fn of(at: impl AsFd, name: &Path, flags: AtFlags) -> Result<Identity, Errno> {
        let wanted = StatxFlags::TYPE | StatxFlags::INO | MNT_ID_UNIQUE;
        let stat = statx(at, name, flags, wanted)
            .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::BlockDevice {
            let folder = format!("/sys/dev/block/{major}:{minor}");
            return Ok(Identity {
                device: DeviceId::Block { major, minor },
                generation: diskseq(Path::new(&folder)),
            });
        }
        let knows_mount = stat.stx_mask & MNT_ID_UNIQUE.bits() != 0;
        Ok(Identity {
            device: DeviceId::File {
                filesystem: makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
            generation: knows_mount.then_some(stat.stx_mnt_id),
        })
    }

    /// An identity that is known already.
    pub(crate) fn new(device: DeviceId, generation: Option<u64>) -> Identity {
        Identity { device, generation }
    }

    pub(crate) fn compare(&self, other: &Identity) -> Comparison {
        match (self.generation, other.generation) {
            _ if self.device != other.device => Comparison::Different,
            (Some(ours), Some(theirs)) if ours == theirs => Comparison::Same,
            (Some(_), Some(_)) => Comparison::Different,
            _ => Comparison::SameNumber,
        }
    }
}

/// The sequence number of a disk, from its sysfs directory or that of one of its partitions.
fn diskseq(folder: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    // The directory of a partition is inside that of its disk.
    let text = read("diskseq").or_else(|| {
        let is_partition = folder.join("partition").exists();
        is_partition.then(|| read("../diskseq"))?
    });
    text?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_the_same_object_only_with_equal_generations() {
        let device = |minor| DeviceId::Block { major: 8, minor };
        let one = |generation| Identity::new(device(0), generation);
        assert_eq!(one(Some(1)).compare(&one(Some(1))), Comparison::Same);
        assert_eq!(one(Some(1)).compare(&one(Some(2))), Comparison::Different);
        assert_eq!(one(Some(1)).compare(&one(None)), Comparison::SameNumber);
        assert_eq!(one(None).compare(&one(None)), Comparison::SameNumber);
        let other = Identity::new(device(16), None);
        assert_eq!(one(None).compare(&other), Comparison::Different);
    }

    #[test]
    fn a_name_and_its_open_file_have_the_same_identity() {
        let file = tempfile::NamedTempFile::new_in(".").expect("a file");
        let named = Identity::of_name(file.path()).expect("it is there");
        assert_eq!(Identity::of_file(file.as_file()), Ok(named));
        let other = tempfile::NamedTempFile::new_in(".").expect("a file");
        let other = Identity::of_file(other.as_file()).expect("open");
        assert_eq!(named.compare(&other), Comparison::Different);
    }

    #[test]
    fn a_partition_has_the_sequence_number_of_its_disk() {
        let root = tempfile::tempdir().expect("a folder");
        let (disk, part) = (root.path().join("sda"), root.path().join("sda/sda1"));
        fs::create_dir_all(&part).expect("folders");
        fs::write(disk.join("diskseq"), "42\n").expect("a file");
        assert_eq!((diskseq(&disk), diskseq(&part)), (Some(42), None));
        fs::write(part.join("partition"), "1\n").expect("a file");
        assert_eq!(diskseq(&part), Some(42));
    }
}
