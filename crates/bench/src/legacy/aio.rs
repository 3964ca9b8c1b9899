//! The system calls of Linux's native asynchronous I/O, counted.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const CMD_PREAD: u16 = 0;
/// So many completions are taken by one call at the most.
const BATCH: usize = 128;

/// Calls made by this process, which has one contender.
static CALLS: AtomicU64 = AtomicU64::new(0);

pub(super) fn calls() -> u64 {
    CALLS.load(Relaxed)
}

/// `struct iocb` of linux/aio_abi.h.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Iocb {
    data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    rw_flags: u32,
    #[cfg(target_endian = "big")]
    key: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Event {
    /// The mark that the read was submitted with.
    pub(super) data: u64,
    object: u64,
    /// Bytes, or a negative errno.
    pub(super) result: i64,
    more: i64,
}

/// Room for what one call brings.
pub(super) fn room() -> Vec<Event> {
    vec![Event::default(); BATCH]
}

/// An aio context.
pub(super) struct Context(libc::c_ulong);

impl Context {
    /// A context for so many reads at a time.
    pub(super) fn setup(reads: usize) -> Result<Context, String> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup(2) writes the id into `id`, which is 0 as the call demands.
        let ret = unsafe { libc::syscall(libc::SYS_io_setup, reads as u32, &raw mut id) };
        match ret {
            0 => Ok(Context(id)),
            _ => Err(format!(
                "io_setup: {}; fs.aio-max-nr may be too small",
                io::Error::last_os_error()
            )),
        }
    }

    /// Hands one read of the first `len` bytes of a file to the kernel.
    ///
    /// # Safety
    /// `buffer` has to be valid for `len` bytes until the completion.
    pub(super) unsafe fn read(&self, fd: i32, buffer: *mut u8, len: usize, mark: u64) -> bool {
        let mut read = Iocb {
            data: mark,
            opcode: CMD_PREAD,
            fd: fd.cast_unsigned(),
            buffer: buffer.expose_provenance() as u64,
            len: len as u64,
            ..Iocb::default()
        };
        let mut list = [&raw mut read];
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the kernel copies the one operation during the call, and writes its own mark
        // into it; the buffer is the caller's promise.
        unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1_i64, list.as_mut_ptr()) == 1 }
    }

    /// Waits until at least one completion is there, at the longest so long, and takes as many as
    /// there are and have room.
    pub(super) fn reap<'a>(&self, room: &'a mut [Event], limit: Duration) -> &'a [Event] {
        let mut limit = libc::timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: limit.subsec_nanos().into(),
        };
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: io_getevents(2) writes at most as many events as `room` has.
        let count = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.0,
                1_i64,
                room.len() as i64,
                room.as_mut_ptr(),
                &raw mut limit,
            )
        };
        // Negative: interrupted, which brings nothing.
        &room[..usize::try_from(count).unwrap_or(0)]
    }
}

impl Drop for Context {
    /// Waits for all reads in flight, however long that takes.
    fn drop(&mut self) {
        // SAFETY: the context is this value's, and is not used again.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
