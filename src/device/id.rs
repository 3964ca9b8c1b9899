//! The identity of a device or file by its numbers: [`DeviceId`].

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{major, minor};

/// Identifies a device or file. Two names with the same id are the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// A block device.
    Block {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A file in a file system.
    File {
        /// The file system's device number.
        filesystem: u64,
        /// The file's inode number.
        inode: u64,
    },
}

impl DeviceId {
    /// The id of the object with this metadata.
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
