//! Where the data of a file is, as reported by its file system (`FS_IOC_FIEMAP`,
//! Documentation/filesystems/fiemap.rst).

use std::os::fd::AsFd;

use rustix::ioctl::{Updater, ioctl, opcode};

use crate::Errno;

/// Extents that one call returns.
const EXTENTS_PER_CALL: usize = 64;
/// Write dirty data to the device first.
const SYNC: u32 = 0x1;

const LAST: u32 = 0x1;
const DELALLOC: u32 = 0x4;
const ENCODED: u32 = 0x8;
const NOT_ALIGNED: u32 = 0x100;
const DATA_INLINE: u32 = 0x200;
const DATA_TAIL: u32 = 0x400;
const UNWRITTEN: u32 = 0x800;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its offset in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Where its data is.
    pub data: ExtentData,
    /// Whether it is the last extent; only a hole may follow it.
    pub is_last: bool,
}

/// Where the data of an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentData {
    /// In whole blocks on the device.
    Blocks,
    /// In memory. It will be written to the device.
    Delayed,
    /// Nowhere. Blocks are allocated, but they read as zeros.
    Unwritten,
    /// Within the metadata blocks of the file system.
    Inline,
    /// On the device, in another form: compressed or encrypted.
    Encoded,
}

/// `struct fiemap` of include/uapi/linux/fiemap.h.
#[repr(C)]
struct FiemapHeader {
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
struct FiemapRequest {
    header: FiemapHeader,
    extents: [RawExtent; EXTENTS_PER_CALL],
}

/// The first extents of a file from `offset` on, as many as one call returns. Empty if there is
/// only a hole. With `sync`, dirty data is written first, which waits for the device. Without it,
/// the call may also wait for the device, if the file system has to read its map.
///
/// # Errors
/// The kernel's error: `EOPNOTSUPP` or `ENOTTY` if the file system does not support this.
pub fn file_extents(file: impl AsFd, offset: u64, sync: bool) -> Result<Vec<Extent>, Errno> {
    let mut request = FiemapRequest {
        header: FiemapHeader {
            start: offset,
            length: u64::MAX - offset,
            flags: if sync { SYNC } else { 0 },
            mapped_extents: 0,
            extent_count: EXTENTS_PER_CALL as u32,
            reserved: 0,
        },
        extents: [RawExtent::default(); EXTENTS_PER_CALL],
    };
    // SAFETY: the opcode is that of FS_IOC_FIEMAP. It reads the header, and writes the header and
    // at most `extent_count` extents behind it. `request` has space for these in the kernel's
    // layout, and this function owns it until the call returns.
    let updater = unsafe {
        Updater::<{ opcode::read_write::<FiemapHeader>(b'f', 11) }, FiemapRequest>::new(
            &mut request,
        )
    };
    // SAFETY: as above. FIEMAP changes no other memory of this process.
    unsafe { ioctl(file, updater) }?;
    let count = (request.header.mapped_extents as usize).min(EXTENTS_PER_CALL);
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
    fn structures_have_the_kernels_size() {
        assert_eq!(size_of::<FiemapHeader>(), 32);
        assert_eq!(size_of::<RawExtent>(), 56);
        assert_eq!(size_of::<FiemapRequest>(), 32 + 56 * EXTENTS_PER_CALL);
    }

    #[test]
    fn flags_determine_where_the_data_is() {
        let data = |flags| {
            let raw = RawExtent {
                flags,
                ..RawExtent::default()
            };
            extent(&raw).data
        };
        // MERGED and SHARED do not tell where the data is.
        assert_eq!(data(LAST | 0x1000 | 0x2000), ExtentData::Blocks);
        assert_eq!(data(0x2 | DELALLOC), ExtentData::Delayed);
        assert_eq!(data(DATA_INLINE | NOT_ALIGNED), ExtentData::Inline);
        assert_eq!(data(ENCODED | 0x80), ExtentData::Encoded);
        assert_eq!(data(UNWRITTEN), ExtentData::Unwritten);
    }
}
