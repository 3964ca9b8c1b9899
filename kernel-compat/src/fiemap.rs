//! Where a file's data is, as its file system tells (`FS_IOC_FIEMAP`, Documentation/filesystems/fiemap.rst).

use std::os::fd::AsFd;

use rustix::ioctl::{Updater, ioctl, opcode};

use crate::Errno;

/// Extents that one call brings.
const PER_CALL: usize = 64;
/// Have what is not on the device yet written there first.
const SYNC: u32 = 0x1;

const LAST: u32 = 0x1;
const DELALLOC: u32 = 0x4;
const ENCODED: u32 = 0x8;
const NOT_ALIGNED: u32 = 0x100;
const DATA_INLINE: u32 = 0x200;
const DATA_TAIL: u32 = 0x400;
const UNWRITTEN: u32 = 0x800;

/// A part of a file that is no hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len: u64,
    /// Where its data is.
    pub data: ExtentData,
    /// Behind it there is only a hole.
    pub is_last: bool,
}

/// Where the data of an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentData {
    /// In whole blocks on the device.
    Blocks,
    /// In memory, on its way to the device.
    Delayed,
    /// Nowhere: its blocks are there, and count as zeros.
    Unwritten,
    /// Within the file system's own blocks.
    Inline,
    /// On the device, in another form: compressed, encrypted.
    Encoded,
}

/// `struct fiemap` of include/uapi/linux/fiemap.h.
#[repr(C)]
struct Head {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    head: Head,
    extents: [RawExtent; PER_CALL],
}

/// The first extents of a file from `offset` on, as many as one call brings; none if there is only a hole.
/// With `sync` what is dirty is written first, for which the device is waited for; and where the file
/// system has its map on the device, that may be so without.
///
/// # Errors
/// What the kernel says: `EOPNOTSUPP` or `ENOTTY` of a file system that can't tell.
pub fn file_extents(file: impl AsFd, offset: u64, sync: bool) -> Result<Vec<Extent>, Errno> {
    let mut request = Request {
        head: Head {
            start: offset,
            length: u64::MAX - offset,
            flags: if sync { SYNC } else { 0 },
            mapped_extents: 0,
            extent_count: PER_CALL as u32,
            reserved: 0,
        },
        extents: [RawExtent::default(); PER_CALL],
    };
    // SAFETY: the opcode is that of FS_IOC_FIEMAP, which reads the head, and writes the head and
    // at most `extent_count` extents behind it. `request` has room for as many, in the kernel's
    // layout, and is this function's until the call returns.
    let updater =
        unsafe { Updater::<{ opcode::read_write::<Head>(b'f', 11) }, Request>::new(&mut request) };
    // SAFETY: as above; FIEMAP changes nothing else of this process.
    unsafe { ioctl(file, updater) }?;
    let count = (request.head.mapped_extents as usize).min(PER_CALL);
    Ok(request.extents[..count].iter().map(extent).collect())
}

fn extent(raw: &RawExtent) -> Extent {
    let has = |flags: u32| raw.flags & flags != 0;
    let data = if has(UNWRITTEN) {
        ExtentData::Unwritten
    } else if has(DATA_INLINE | DATA_TAIL | NOT_ALIGNED) {
        ExtentData::Inline
    } else if has(DELALLOC) {
        ExtentData::Delayed
    } else if has(ENCODED) {
        ExtentData::Encoded
    } else {
        ExtentData::Blocks
    };
    Extent {
        offset: raw.logical,
        len: raw.length,
        data,
        is_last: has(LAST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Head>(), 32);
        assert_eq!(size_of::<RawExtent>(), 56);
        assert_eq!(size_of::<Request>(), 32 + 56 * PER_CALL);
    }

    #[test]
    fn flags_tell_where_the_data_is() {
        let data = |flags| {
            let raw = RawExtent {
                flags,
                ..RawExtent::default()
            };
            extent(&raw).data
        };
        // MERGED and SHARED, which say nothing about where it is.
        assert_eq!(data(LAST | 0x1000 | 0x2000), ExtentData::Blocks);
        assert_eq!(data(0x2 | DELALLOC), ExtentData::Delayed);
        assert_eq!(data(DATA_INLINE | NOT_ALIGNED), ExtentData::Inline);
        assert_eq!(data(ENCODED | 0x80), ExtentData::Encoded);
        assert_eq!(data(UNWRITTEN), ExtentData::Unwritten);
    }
}
