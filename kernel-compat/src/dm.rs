//! Two device-mapper calls: send a message to a map, and get the status of a map.
//!
//! The layout is that of `struct dm_ioctl` (include/uapi/linux/dm-ioctl.h). It is the same for all
//! 4.x versions of the interface and on all architectures. The calls need `CAP_SYS_ADMIN` and
//! `/dev/mapper/control`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use crate::KernelError;

const CONTROL: &str = "/dev/mapper/control";
/// `_IOWR(0xfd, 12, struct dm_ioctl)`, and the same with 14.
const TABLE_STATUS: u32 = 0xc138_fd0c;
const TARGET_MSG: u32 = 0xc138_fd0e;
/// The size of `struct dm_ioctl`, which precedes all data.
const HEADER_BYTES: usize = 312;
/// The size of `struct dm_target_spec`, which precedes each target's status.
const SPEC_BYTES: usize = 40;
/// Enough for the status of a map with hundreds of paths.
const STATUS_BYTES: usize = 64 << 10;
/// The kernel sets this if the buffer was too small.
const BUFFER_FULL: u32 = 1 << 8;
/// Get the status without flushing the map's pending writes.
const NO_FLUSH: u32 = 1 << 11;

const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEVICE: usize = 40;

/// Sends a message to the map with this device number: to its first target, which is the only
/// target of a multipath map. Returns after the map has handled the message, which involves no I/O
/// to a device.
///
/// # Errors
/// The kernel's error: `ENXIO` if no such map exists, `EINVAL` if the target does not know the
/// message.
pub fn dm_message(map: (u32, u32), message: &str) -> Result<(), KernelError> {
    let mut buffer = message_to(map, message);
    call("DM_TARGET_MSG", TARGET_MSG, &mut buffer)
}

/// The status of all targets of the map with this device number, one line for each target.
///
/// # Errors
/// The kernel's error.
pub fn dm_status(map: (u32, u32)) -> Result<String, KernelError> {
    let mut buffer = header(map, STATUS_BYTES, NO_FLUSH);
    call("DM_TABLE_STATUS", TABLE_STATUS, &mut buffer)?;
    Ok(lines_of(&bytes_of(&buffer)))
}

/// A `dm_ioctl` for this map, with `size` bytes in total. It consists of words, because the kernel
/// requires alignment.
fn header(map: (u32, u32), size: usize, flags: u32) -> Vec<u64> {
    let mut bytes = vec![0u8; size.next_multiple_of(8)];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(0, 4);
    put(DATA_SIZE, size as u32);
    put(DATA_START, HEADER_BYTES as u32);
    put(FLAGS, flags);
    let device = u64::from(encode(map));
    bytes[DEVICE..DEVICE + 8].copy_from_slice(&device.to_ne_bytes());
    words_of(&bytes)
}

/// Like `new_encode_dev` of include/linux/kdev_t.h.
fn encode((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// A `dm_ioctl` with a `dm_target_msg`: a sector, here 0, and a string with its end.
fn message_to(map: (u32, u32), message: &str) -> Vec<u64> {
    let size = HEADER_BYTES + 8 + message.len() + 1;
    let mut bytes = bytes_of(&header(map, size, 0));
    let start = HEADER_BYTES + 8;
    bytes[start..start + message.len()].copy_from_slice(message.as_bytes());
    words_of(&bytes)
}

/// The status of each target, as TABLE_STATUS left it.
fn lines_of(bytes: &[u8]) -> String {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        field.try_into().ok().map(u32::from_ne_bytes)
    };
    let mut lines = String::new();
    let data = number(DATA_START).unwrap_or(0) as usize;
    if number(FLAGS).unwrap_or(BUFFER_FULL) & BUFFER_FULL != 0 {
        return lines;
    }
    let mut at = data;
    for _ in 0..number(TARGET_COUNT).unwrap_or(0) {
        let Some(text) = bytes.get(at + SPEC_BYTES..) else {
            break;
        };
        let end = text.iter().position(|byte| *byte == 0);
        lines += &String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]);
        lines.push('\n');
        // `next` is relative to the first target.
        match number(at + 20) {
            Some(next) if next as usize + data > at => at = data + next as usize,
            _ => break,
        }
    }
    lines
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    let word = |chunk: &[u8]| chunk.try_into().map_or(0, u64::from_ne_bytes);
    words.map(word).collect()
}

fn call(name: &'static str, request: u32, buffer: &mut [u64]) -> Result<(), KernelError> {
    let control: io::Result<File> = OpenOptions::new().read(true).write(true).open(CONTROL);
    let control = control.map_err(|error| {
        KernelError::of("open of /dev/mapper/control")(error)
            .hint("actions on multipath maps need root and the kernel module dm_mod")
    })?;
    // SAFETY: the kernel reads and writes as many bytes from here as `data_size` says, which is at
    // most the buffer's length. This function owns the buffer during the call, and it is aligned to
    // 8.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), request as _, buffer.as_mut_ptr()) };
    if done < 0 {
        return Err(KernelError::of(name)(io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_kernels_layout() {
        let bytes = bytes_of(&message_to((253, 7), "fail_path 8:16"));
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"));
        assert_eq!((word(0), word(4), word(8)), (4, 0, 0));
        assert_eq!(word(DATA_SIZE), 312 + 8 + 14 + 1);
        assert_eq!((word(DATA_START), word(FLAGS)), (312, 0));
        assert_eq!((word(DEVICE), word(DEVICE + 4)), (253 << 8 | 7, 0));
        assert_eq!(&bytes[312..320], [0; 8]);
        assert_eq!(&bytes[320..335], b"fail_path 8:16\0");
        assert!(bytes.len() >= 335 && bytes.len().is_multiple_of(8));
        // Neither name nor uuid: the device number selects the map.
        assert!(bytes[48..312].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn request_numbers_match_ioctl_h() {
        let iowr = |number: u32| (3 << 30) | ((HEADER_BYTES as u32) << 16) | (0xfd << 8) | number;
        assert_eq!((iowr(12), iowr(14)), (TABLE_STATUS, TARGET_MSG));
        assert_eq!(encode((253, 300)), 253 << 8 | 44 | 256 << 12);
    }

    #[test]
    fn status_has_a_line_per_target_and_invalid_input_is_ignored() {
        let mut bytes = bytes_of(&header((253, 0), 1024, 0));
        let put = |bytes: &mut Vec<u8>, at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(&mut bytes, TARGET_COUNT, 2);
        put(&mut bytes, 312 + 20, 64);
        bytes[352..356].copy_from_slice(b"one\0");
        put(&mut bytes, 376 + 20, 128);
        bytes[416..420].copy_from_slice(b"two\0");
        assert_eq!(lines_of(&bytes), "one\ntwo\n");
        put(&mut bytes, 312 + 20, 0);
        assert_eq!(lines_of(&bytes), "one\n");
        put(&mut bytes, 312 + 20, u32::MAX);
        assert_eq!(lines_of(&bytes), "one\n");
        put(&mut bytes, FLAGS, BUFFER_FULL);
        assert_eq!(lines_of(&bytes), "");
    }

    #[test]
    fn an_unknown_map_is_an_error() {
        // Fails in any case: also without permission, or without device-mapper.
        let error = dm_message((253, 1 << 19), "fail_path 1:1").expect_err("no such map");
        assert!(!error.to_string().is_empty());
        assert!(dm_status((253, 1 << 19)).is_err());
    }
}
