//! The system calls of Linux's native asynchronous I/O (io_setup(2) etc.), without libaio.
//!
//! The structures and numbers are those of include/uapi/linux/aio_abi.h.

use std::io;
use std::time::Duration;

use crate::errno::KernelResult;
use crate::{Errno, KernelError};

/// The most completions that one call returns.
pub(crate) const BATCH: usize = 128;

const CMD_PREAD: u16 = 0;
const FLAG_RESFD: u32 = 1;

/// `struct iocb`: one operation.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Iocb {
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

/// The parameters of a read, for [`Iocb::pread`].
pub(crate) struct ReadParams {
    /// Returned in [`Event::data`].
    pub(crate) data: u64,
    pub(crate) fd: i32,
    pub(crate) address: *mut u8,
    pub(crate) len: u32,
    pub(crate) offset: u64,
    pub(crate) nowait: bool,
    /// An eventfd that the completion signals.
    pub(crate) notify: i32,
}

impl Iocb {
    pub(crate) fn pread(read: &ReadParams) -> Iocb {
        let flags = if read.nowait { libc::RWF_NOWAIT } else { 0 };
        Iocb {
            data: read.data,
            rw_flags: flags.cast_unsigned(),
            opcode: CMD_PREAD,
            fd: read.fd.cast_unsigned(),
            buffer: read.address.expose_provenance() as u64,
            len: read.len.into(),
            offset: read.offset.cast_signed(),
            flags: FLAG_RESFD,
            resfd: read.notify.cast_unsigned(),
            ..Iocb::default()
        }
    }
}

/// `struct io_event`: one completion.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Event {
    /// [`ReadParams::data`] of the operation.
    pub(crate) data: u64,
    iocb: u64,
    res: i64,
    res2: i64,
}

impl Event {
    /// The number of bytes, or an errno.
    pub(crate) fn result(&self) -> KernelResult {
        Errno::check(i32::try_from(self.res).unwrap_or(i32::MIN))
    }
}

/// An aio context. Dropping it does not destroy it, because destroying it can take forever.
#[derive(Debug)]
pub(crate) struct Context {
    id: libc::c_ulong,
}

impl Context {
    /// Opens a context for `events` operations at a time. That many count against fs.aio-max-nr.
    ///
    /// # Errors
    /// `io_setup`, with the likely cause.
    pub(crate) fn setup(events: u32) -> Result<Context, KernelError> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup(2) writes the new context's id into `id`, which this function owns and
        // which is 0 as required.
        let ret = unsafe { libc::syscall(libc::SYS_io_setup, events, &raw mut id) };
        match checked(ret) {
            Ok(_) => Ok(Context { id }),
            Err(errno) => Err(setup_error(errno, events)),
        }
    }

    /// Submits operations in order. Returns how many the kernel took, at least 1.
    ///
    /// # Errors
    /// The error of the first operation, which the kernel does not know then. `EAGAIN` means that
    /// the context is full.
    ///
    /// # Safety
    /// Each pointer must refer to an operation that may be read and written during the call (the
    /// kernel writes its own mark). The memory named by the operations must stay valid until their
    /// completions.
    pub(crate) unsafe fn submit(&self, operations: &[*mut Iocb]) -> Result<usize, Errno> {
        // SAFETY: io_submit(2) with as many operations as the slice has. The caller guarantees the
        // rest. The kernel copies the operations before it returns.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.id,
                operations.len(),
                operations.as_ptr(),
            )
        };
        match checked(ret)? {
            0 => Err(Errno::EAGAIN),
            count => Ok(count),
        }
    }

    /// Waits for `least` completions, but not longer than `timeout` (`None` means no limit).
    /// Appends the available ones to `events`, at most [`BATCH`], and returns their number.
    ///
    /// # Errors
    /// `EINVAL` if the context was destroyed.
    pub(crate) fn events(
        &self,
        least: u32,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<usize, Errno> {
        let timeout = timeout.map(|span| libc::timespec {
            tv_sec: span.as_secs().cast_signed(),
            tv_nsec: span.subsec_nanos().into(),
        });
        let timeout = timeout
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref);
        events.reserve(BATCH);
        let free = &mut events.spare_capacity_mut()[..BATCH];
        // SAFETY: io_getevents(2) writes at most `free.len()` events to `free`, which is borrowed
        // for the call, and reads the timeout, which this function owns.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.id,
                libc::c_long::from(least),
                free.len(),
                free.as_mut_ptr(),
                timeout,
            )
        };
        let count = match checked(ret) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        // SAFETY: the kernel has written `count` events behind the existing ones, within the
        // capacity.
        unsafe { events.set_len(events.len() + count) };
        Ok(count)
    }

    /// Tries to cancel an operation. The kernel can't cancel any kind of read yet, and its error
    /// tells nothing.
    ///
    /// # Safety
    /// `operation` must refer to an operation that may be read.
    pub(crate) unsafe fn cancel(&self, operation: *mut Iocb) {
        let mut unused = Event::default();
        // SAFETY: io_cancel(2) reads the operation's mark, which the caller guarantees, and may
        // write one event to `unused`.
        unsafe { libc::syscall(libc::SYS_io_cancel, self.id, operation, &raw mut unused) };
    }

    /// Destroys the context. Blocks, unkillable, until all its operations have completed, and for
    /// some tens of milliseconds if there are none. Call it only in background threads.
    pub(crate) fn destroy(&self) {
        // SAFETY: io_destroy(2) takes no memory. It fails only for a destroyed context.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// libc's `syscall` returns -1 and sets `errno`, also for those calls whose libaio wrappers return
/// a negative errno.
fn checked(ret: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(ret).map_err(|_| Errno::of(&io::Error::last_os_error()))
}

fn setup_error(errno: Errno, events: u32) -> KernelError {
    let hint = match errno {
        Errno::EAGAIN => match (slots("aio-max-nr"), slots("aio-nr")) {
            (Some(max), Some(taken)) => out_of_slots(max, taken, events),
            _ => "all slots of fs.aio-max-nr are taken; raise it".into(),
        },
        Errno::ENOSYS => "this kernel was built without CONFIG_AIO, or a seccomp filter blocks it".into(),
        Errno::EPERM | Errno::EACCES => "a seccomp filter or the security module forbids it; allow io_setup, io_submit, io_getevents, io_cancel and io_destroy".into(),
        Errno::ENOMEM => "the kernel has not enough memory for a context".into(),
        _ => String::new(),
    };
    KernelError::new("io_setup", errno).hint(hint)
}

/// The hint when fs.aio-max-nr is `max`, `taken` slots are taken and `needed` are needed.
fn out_of_slots(max: u64, taken: u64, needed: u32) -> String {
    let enough = (taken + u64::from(needed))
        .next_multiple_of(65_536)
        .max(max);
    format!(
        "fs.aio-max-nr is {max}, of which {taken} are taken, and {needed} more are needed; raise it with sysctl -w fs.aio-max-nr={enough}"
    )
}

fn slots(name: &str) -> Option<u64> {
    let value = std::fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_size() {
        assert_eq!(size_of::<Iocb>(), 64);
        assert_eq!(size_of::<Event>(), 32);
    }

    #[test]
    fn the_hint_names_the_limit_the_use_and_the_command() {
        assert_eq!(
            out_of_slots(65_536, 65_000, 2_133),
            "fs.aio-max-nr is 65536, of which 65000 are taken, and 2133 more are needed; raise it with sysctl -w fs.aio-max-nr=131072"
        );
    }

    #[test]
    fn too_large_a_context_is_refused_with_that_hint() {
        // The kernel's own limit is 2^28 bytes of io_event, which is twice what this requests.
        match Context::setup(4_000_000) {
            Err(error) if error.errno == Errno::EAGAIN => {
                assert!(error.hint.contains("sysctl -w fs.aio-max-nr="), "{error}");
            }
            Err(error) => assert_ne!(error.errno, Errno::EINVAL, "{error}"),
            Ok(context) => context.destroy(),
        }
    }
}
