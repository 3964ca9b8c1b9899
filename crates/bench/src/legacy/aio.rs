//! The system calls of Linux's native asynchronous I/O, with a counter.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const CMD_PREAD: u16 = 0;
/// The most completions that one call returns.
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
    /// The user data of the read.
    pub(super) data: u64,
    object: u64,
    /// The number of bytes, or a negative errno.
    pub(super) result: i64,
    more: i64,
}

/// Space for the completions of one call.
pub(super) fn event_buffer() -> Vec<Event> {
    vec![Event::default(); BATCH]
}

/// An aio context.
pub(super) struct Context(libc::c_ulong);

impl Context {
    /// Opens a context for this many reads at a time.
    pub(super) fn setup(reads: usize) -> Result<Context, String> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup(2) writes the id into `id`, which is 0 as required.
        let ret = unsafe { libc::syscall(libc::SYS_io_setup, reads as u32, &raw mut id) };
        match ret {
            0 => Ok(Context(id)),
            _ => Err(format!(
                "io_setup: {}; fs.aio-max-nr may be too small",
                io::Error::last_os_error()
            )),
        }
    }

    /// Submits a read of the first `len` bytes of a file.
    ///
    /// # Safety
    /// `buffer` must be valid for `len` bytes until the completion.
    pub(super) unsafe fn read(&self, fd: i32, buffer: *mut u8, len: usize, user_data: u64) -> bool {
        let mut read = Iocb {
            data: user_data,
            opcode: CMD_PREAD,
            fd: fd.cast_unsigned(),
            buffer: buffer.expose_provenance() as u64,
            len: len as u64,
            ..Iocb::default()
        };
        let mut list = [&raw mut read];
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the kernel copies the operation during the call, and writes its own mark into it.
        // The caller guarantees the buffer.
        unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1_i64, list.as_mut_ptr()) == 1 }
    }

    /// Waits for at least one completion, but not longer than `limit`. Takes as many as are
    /// available and fit.
    pub(super) fn reap<'a>(&self, buffer: &'a mut [Event], limit: Duration) -> &'a [Event] {
        let mut limit = libc::timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: limit.subsec_nanos().into(),
        };
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: io_getevents(2) writes at most as many events as `buffer` has.
        let count = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.0,
                1_i64,
                buffer.len() as i64,
                buffer.as_mut_ptr(),
                &raw mut limit,
            )
        };
        // A negative value means that it was interrupted and returned no events.
        &buffer[..usize::try_from(count).unwrap_or(0)]
    }
}

impl Drop for Context {
    /// Waits for all reads in flight, however long that takes.
    fn drop(&mut self) {
        // SAFETY: this value owns the context, and does not use it again.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
