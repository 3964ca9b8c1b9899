//! Whether reads of a regular file reach its device.
//!
//! | first block of the file | who answers a read of it |
//! |---|---|
//! | written | the device |
//! | a hole, or allocated and never written | the file system alone, with zeros |
//! | inline, within the file system's own blocks | the file system, from memory |
//! | compressed or encrypted | usually a copy in memory: such files are read through the page cache |
//! | of a file without direct I/O | a copy in memory |
//!
//! In all cases but the first, a path would be good over a dead disk. FIEMAP distinguishes the
//! cases. If the file system does not support it, SEEK_DATA and SEEK_HOLE do in part. If it
//! supports neither, all data is assumed to be on the device. All these calls may wait for the
//! device, so the threads that open paths make them.

use std::fmt;
use std::fs::File;

use pathpulse_kernel_compat::{Errno, Extent, ExtentData, file_extents};
use rustix::fs::{SeekFrom, seek};

/// Limit of FIEMAP calls per file, which may consist of very many extents.
const CALLS_MAX: usize = 32;

/// Why a read of a file does not test its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbacked {
    /// Its first block was never written and has no place on the device.
    Hole,
    /// Its first block has a place on the device but was never written.
    Unwritten,
    /// Its data lies within the file system's own blocks.
    Inline,
    /// Its data is compressed or encrypted, and is read through the page cache.
    Encoded,
    /// The file is always read through the page cache.
    Buffered,
}

impl fmt::Display for Unbacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unbacked::Hole => "its first block is a hole, which the file system reads as zeros",
            Unbacked::Unwritten => {
                "its first block is allocated and was never written: the file system reads it as zeros"
            }
            Unbacked::Inline => "its data lies within the file system's own blocks, which are in memory",
            Unbacked::Encoded => "its data is compressed or encrypted, and is read from memory",
            Unbacked::Buffered => {
                "its file system reads this file through the page cache, that is, from memory"
            }
        })
    }
}

/// Number of bytes from the beginning of a file that are on its device without a gap.
pub(crate) fn bytes_on_device(file: &File, size: u64, block: u32) -> Result<u64, Unbacked> {
    let extents = |offset, sync| file_extents(file, offset, sync);
    let min_bytes = u64::from(block);
    match bytes_before_gap(size, min_bytes, |offset| extents(offset, false)) {
        // Dirty pages in memory may still be written there.
        Ok(Err(Unbacked::Hole | Unbacked::Unwritten)) => {
            let synced = bytes_before_gap(size, min_bytes, |offset| extents(offset, true));
            synced.unwrap_or_else(|_| bytes_by_seeking(file, size, min_bytes))
        }
        Ok(known) => known,
        Err(_) => bytes_by_seeking(file, size, min_bytes),
    }
}

/// The same, from the extents after an offset. A result below `min_bytes` bytes is an error.
fn bytes_before_gap(
    size: u64,
    min_bytes: u64,
    extents: impl Fn(u64) -> Result<Vec<Extent>, Errno>,
) -> Result<Result<u64, Unbacked>, Errno> {
    let mut end = 0;
    let mut gap = None;
    for _ in 0..CALLS_MAX {
        if end >= size || gap.is_some() {
            break;
        }
        let next = extents(end)?;
        if next.is_empty() {
            gap = Some(Unbacked::Hole);
        }
        for extent in next {
            gap = unbacked_reason(&extent, end);
            if gap.is_some() {
                break;
            }
            end = extent.offset.saturating_add(extent.len).max(end);
            if extent.is_last {
                gap = Some(Unbacked::Hole);
                break;
            }
        }
    }
    let end = end.min(size);
    Ok(match gap {
        Some(why) if end < min_bytes => Err(why),
        _ => Ok(end),
    })
}

/// Why a read at `from`, which lies in this extent or before it, does not reach the device.
fn unbacked_reason(extent: &Extent, from: u64) -> Option<Unbacked> {
    if extent.offset > from {
        return Some(Unbacked::Hole);
    }
    match extent.data {
        // The kernel writes delayed blocks before it reads them directly.
        ExtentData::Blocks | ExtentData::Delayed => None,
        ExtentData::Unwritten => Some(Unbacked::Unwritten),
        ExtentData::Inline => Some(Unbacked::Inline),
        ExtentData::Encoded => Some(Unbacked::Encoded),
    }
}

fn bytes_by_seeking(file: &File, size: u64, min_bytes: u64) -> Result<u64, Unbacked> {
    match seek(file, SeekFrom::Data(0)) {
        Ok(0) => {}
        Ok(_) | Err(rustix::io::Errno::NXIO) => return Err(Unbacked::Hole),
        // The file system can't tell.
        Err(_) => return Ok(size),
    }
    match seek(file, SeekFrom::Hole(0)) {
        Ok(end) if end < min_bytes => Err(Unbacked::Hole),
        Ok(end) => Ok(end.min(size)),
        Err(_) => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FallocateFlags, fallocate};
    use std::io::{self, Read, Seek, Write};

    const BLOCK: u32 = 4096;

    fn skip(why: &str) {
        let _ = writeln!(io::stderr(), "SKIPPED: {why}");
    }

    fn extent(offset: u64, len: u64, data: ExtentData) -> Extent {
        Extent {
            offset,
            len,
            data,
            is_last: false,
        }
    }

    #[test]
    fn data_counts_up_to_its_first_gap() {
        use ExtentData::{Blocks, Delayed, Encoded, Inline, Unwritten};
        let of = |extents: &[Extent]| {
            let from = |offset| {
                let after = extents.iter().filter(|e| e.offset + e.len > offset);
                // Two at a time, so that several calls are needed.
                Ok(after.take(2).copied().collect())
            };
            bytes_before_gap(100_000, 4096, from).expect("no error")
        };
        let hole = Err(Unbacked::Hole);
        assert_eq!(of(&[]), hole);
        assert_eq!(of(&[extent(4096, 4096, Blocks)]), hole);
        assert_eq!(of(&[extent(0, 512, Blocks)]), hole);
        assert_eq!(of(&[extent(0, 8192, Unwritten)]), Err(Unbacked::Unwritten));
        assert_eq!(of(&[extent(0, 8192, Inline)]), Err(Unbacked::Inline));
        assert_eq!(of(&[extent(0, 8192, Encoded)]), Err(Unbacked::Encoded));
        assert_eq!(
            of(&[extent(0, 8192, Delayed), extent(8192, 4096, Unwritten)]),
            Ok(8192)
        );
        let pieces: Vec<Extent> = (0..5).map(|n| extent(n * 4096, 4096, Blocks)).collect();
        assert_eq!(of(&pieces), Ok(5 * 4096));
        assert_eq!(of(&[extent(0, 1 << 20, Blocks)]), Ok(100_000));
        let last = Extent {
            is_last: true,
            ..extent(0, 4096, Blocks)
        };
        assert_eq!(of(&[last, extent(4096, 4096, Blocks)]), Ok(4096));
        // More extents than the limit of calls: the known ones count.
        let endless = |offset| Ok(vec![extent(offset, 512, Blocks)]);
        assert_eq!(
            bytes_before_gap(u64::MAX, 512, endless),
            Ok(Ok(512 * CALLS_MAX as u64))
        );
        let unknown = |_| Err(Errno::EOPNOTSUPP);
        assert_eq!(bytes_before_gap(1, 1, unknown), Err(Errno::EOPNOTSUPP));
    }

    /// A file of four blocks without data, on the disk of the build directory.
    fn sparse() -> File {
        let file = tempfile::tempfile_in(".").expect("a file");
        file.set_len(4 * u64::from(BLOCK)).expect("sized");
        file
    }

    fn on_device(file: &File) -> Result<u64, Unbacked> {
        let size = file.metadata().expect("known").len();
        let found = bytes_on_device(file, size, BLOCK);
        // Seeking gives the same result, except for cached pages of blocks that were never written.
        let sought = bytes_by_seeking(file, size, u64::from(BLOCK));
        assert_eq!(found.is_ok(), sought.is_ok(), "{found:?} {sought:?}");
        found
    }

    #[test]
    fn holes_and_unwritten_blocks_are_not_data() {
        let mut file = sparse();
        let block = vec![0xA5_u8; BLOCK as usize];
        if file_extents(&file, 0, false).is_err() {
            return skip("this file system does not support FIEMAP");
        }
        assert_eq!(on_device(&file), Err(Unbacked::Hole));
        file.seek(io::SeekFrom::Start(u64::from(BLOCK)))
            .expect("there");
        file.write_all(&block).expect("written");
        assert_eq!(on_device(&file), Err(Unbacked::Hole));
        file.rewind().expect("there");
        file.write_all(&block).expect("written");
        assert_eq!(on_device(&file), Ok(2 * u64::from(BLOCK)));
        file.sync_all().expect("synced");
        assert_eq!(on_device(&file), Ok(2 * u64::from(BLOCK)));
    }

    #[test]
    fn allocated_blocks_count_once_they_are_written() {
        let mut file = sparse();
        let size = 4 * u64::from(BLOCK);
        if fallocate(&file, FallocateFlags::empty(), 0, size).is_err() {
            return skip("this file system does not support fallocate");
        }
        if file_extents(&file, 0, false).is_err() {
            return skip("this file system does not support FIEMAP");
        }
        assert_eq!(
            bytes_on_device(&file, size, BLOCK),
            Err(Unbacked::Unwritten)
        );
        // The zeros are in the page cache now, and SEEK_DATA reports them as data.
        let mut zeros = Vec::new();
        file.read_to_end(&mut zeros).expect("read");
        assert_eq!(
            bytes_on_device(&file, size, BLOCK),
            Err(Unbacked::Unwritten)
        );
        // Written to the page cache, but not to the device yet.
        file.rewind().expect("there");
        file.write_all(&vec![0xA5_u8; size as usize])
            .expect("written");
        assert_eq!(bytes_on_device(&file, size, BLOCK), Ok(size));
    }
}
