//! Opens paths for reading.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{OFlags, ioctl_blksszget};

/// The length of a read from a file without a block size.
const FILE_BLOCK: usize = 4096;

/// Opens a path for direct reads.
pub(crate) fn open_direct(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The logical block size in bytes.
pub(crate) fn block_size(file: &File) -> usize {
    ioctl_blksszget(file).map_or(FILE_BLOCK, |block| block as usize)
}
