//! Why a path can't be opened or watched, with advice: [`OpenError`].

use std::fmt;
use std::path::{Path, PathBuf};

use pathpulse_kernel_compat::Errno;

use crate::device::{Unbacked, display_name};
use crate::health::{open_blames_device, open_reached_device};

/// Why a path can't be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// The name that was given.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: OpenProblem,
}

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenProblem {
    /// open(2) failed.
    Open(Errno),
    /// Not storage: a directory, a terminal, a pipe.
    NotStorage,
    /// The file or its file system does not support `O_DIRECT`.
    NoDirectIo,
    /// Shorter than one block.
    Empty {
        /// Its size in bytes.
        size: u64,
        /// Its logical block size in bytes.
        block: u32,
    },
    /// The logical block size is not supported.
    BlockSize(u32),
    /// A read of this file would be answered without its device.
    Unbacked(Unbacked),
    /// The same device is watched already, perhaps with another name.
    Twice {
        /// The name that it is watched by.
        first: PathBuf,
    },
    /// open(2) did not return in time.
    Blocked,
    /// The monitor was shut down.
    Closed,
}

impl OpenError {
    pub(crate) fn new(path: &Path, problem: OpenProblem) -> OpenError {
        OpenError {
            path: path.to_owned(),
            problem,
        }
    }
}

impl OpenProblem {
    /// The errno behind the problem.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            OpenProblem::Open(errno) => Some(*errno),
            OpenProblem::NoDirectIo => Some(Errno::EINVAL),
            _ => None,
        }
    }

    /// Whether the connection to the device is at fault. Other faults are in the name, our rights
    /// or our limits, or in a condition of the device that the connection has no part in, such as
    /// an empty drive.
    pub fn blames_device(&self) -> bool {
        match self {
            OpenProblem::Open(errno) => open_blames_device(*errno),
            OpenProblem::Blocked => true,
            _ => false,
        }
    }

    /// Whether open(2) reached the device, so that the result says something about it.
    pub fn reached_device(&self) -> bool {
        match self {
            OpenProblem::Open(errno) => open_reached_device(*errno),
            OpenProblem::Blocked => true,
            _ => false,
        }
    }
}

/// Advice for files: afterwards the data lies on the disk, in whole blocks, uncompressed.
const REWRITE_IT: &str =
    "rewrite it: dd if=/dev/urandom of=FILE bs=1M count=1 oflag=direct conv=fsync";

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
                "open: EINVAL: does not support O_DIRECT; name the block device, or a file on a disk file system",
            ),
            OpenProblem::Empty { size: 0, .. } => write!(
                f,
                "is empty: a device of size 0 has no block to read; if it is a file, {REWRITE_IT}"
            ),
            OpenProblem::Empty { size, block } => write!(
                f,
                "has {size} bytes, less than one logical block of {block} bytes; if it is a file, {REWRITE_IT}"
            ),
            OpenProblem::Unbacked(why) => write!(
                f,
                "a read of this file would not reach its disk: {why}; {}",
                match why {
                    Unbacked::Buffered => "name another file, or the block device",
                    _ => REWRITE_IT,
                }
            ),
            OpenProblem::BlockSize(block) => write!(
                f,
                "has a logical block size of {block} bytes; supported are 512 to 131072"
            ),
            OpenProblem::Twice { first } => write!(
                f,
                "named twice: it is the same device as {}, which is watched already",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_depends_on_the_errno() {
        let text = |errno| OpenProblem::Open(errno).to_string();
        let (rules, rights) = (text(Errno::EPERM), text(Errno::EACCES));
        assert!(rules.contains("device cgroup") && !rules.contains("run as root"));
        assert!(rights.contains("run as root") && !rights.contains("container"));
    }
}
