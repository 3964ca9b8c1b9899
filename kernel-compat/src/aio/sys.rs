//! The system calls of Linux's native asynchronous I/O (io_setup(2) and its kin), without libaio.
//!
//! Structures and numbers are those of include/uapi/linux/aio_abi.h.

use std::io;
use std::time::Duration;

use crate::errno::KernelResult;
use crate::{Errno, KernelError};

/// So many completions are taken by one call at the most.
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

/// A read, in the words of [`Iocb`].
pub(crate) struct Pread {
    /// Comes back in [`Event::data`].
    pub(crate) data: u64,
    pub(crate) fd: i32,
    pub(crate) address: *mut u8,
    pub(crate) len: u32,
    pub(crate) offset: u64,
    pub(crate) nowait: bool,
    /// An eventfd that the completion adds 1 to.
    pub(crate) notify: i32,
}

impl Iocb {
    pub(crate) fn pread(read: &Pread) -> Iocb {
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
    /// What the operation's [`Pread::data`] was.
    pub(crate) data: u64,
    iocb: u64,
    res: i64,
    res2: i64,
}

impl Event {
    /// Bytes or an errno.
    pub(crate) fn result(&self) -> KernelResult {
        Errno::check(i32::try_from(self.res).unwrap_or(i32::MIN))
    }
}

/// An aio context. It is not destroyed when dropped, because destroying it can take for ever.
#[derive(Debug)]
pub(crate) struct Context {
    id: libc::c_ulong,
}

impl Context {
    /// A context for `events` operations at a time. That many are taken from fs.aio-max-nr.
    ///
    /// # Errors
    /// With the likely cause.
    pub(crate) fn setup(events: u32) -> Result<Context, KernelError> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup(2) writes the new context's id into `id`, which is this function's and
        // 0 as the call demands.
        let ret = unsafe { libc::syscall(libc::SYS_io_setup, events, &raw mut id) };
        match checked(ret) {
            Ok(_) => Ok(Context { id }),
            Err(errno) => Err(setup_error(errno, events)),
        }
    }

    /// Hands operations to the kernel, in order; returns how many it took, at least 1.
    ///
    /// # Errors
    /// That of the first operation, of which the kernel knows nothing then. `EAGAIN`: there is no
    /// room in the context.
    ///
    /// # Safety
    /// Each pointer leads to an operation that may be read, and written to (the kernel writes its
    /// own mark), during the call. The memory that the operations name has to stay valid until
    /// their completions.
    pub(crate) unsafe fn submit(&self, operations: &[*mut Iocb]) -> Result<usize, Errno> {
        // SAFETY: io_submit(2) with as many operations as the slice has; the rest is the caller's
        // promise. The kernel copies the operations before it returns.
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

    /// Waits for `least` completions, `timeout` at the longest (`None`: no limit), and appends those
    /// that there are to `events`, [`BATCH`] at the most. Says how many these are.
    ///
    /// # Errors
    /// `EINVAL`: the context was destroyed.
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
        let room = &mut events.spare_capacity_mut()[..BATCH];
        // SAFETY: io_getevents(2) writes at most `room.len()` events to `room`, which is borrowed
        // for the call, and reads the timeout, which this function owns.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.id,
                libc::c_long::from(least),
                room.len(),
                room.as_mut_ptr(),
                timeout,
            )
        };
        let count = match checked(ret) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        // SAFETY: the kernel has written `count` events behind those that were there, within the
        // capacity.
        unsafe { events.set_len(events.len() + count) };
        Ok(count)
    }

    /// Tries to cancel an operation. The kernel knows how to for no kind of read, and its error for
    /// that says nothing.
    ///
    /// # Safety
    /// `operation` leads to an operation that may be read.
    pub(crate) unsafe fn cancel(&self, operation: *mut Iocb) {
        let mut unused = Event::default();
        // SAFETY: io_cancel(2) reads the operation's mark, the caller's promise, and may write one
        // event to `unused`.
        unsafe { libc::syscall(libc::SYS_io_cancel, self.id, operation, &raw mut unused) };
    }

    /// Gives the context back. Blocks, unkillable, until all its operations have completed, and some
    /// tens of milliseconds if there are none: only for threads that nobody waits for.
    pub(crate) fn destroy(&self) {
        // SAFETY: io_destroy(2) takes no memory. It fails only for a context that was destroyed.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// libc's `syscall` answers with -1 and `errno`, also for these calls whose wrappers in libaio
/// answer with a negative errno.
fn checked(ret: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(ret).map_err(|_| Errno::of(&io::Error::last_os_error()))
}

fn setup_error(errno: Errno, events: u32) -> KernelError {
    let hint = match errno {
        Errno::EAGAIN => match (slots("aio-max-nr"), slots("aio-nr")) {
            (Some(max), Some(taken)) => out_of_slots(max, taken, events),
            _ => "fs.aio-max-nr is used up; raise it".into(),
        },
        Errno::ENOSYS => "this kernel was built without CONFIG_AIO, or a seccomp filter hides it".into(),
        Errno::EPERM | Errno::EACCES => "a seccomp filter or the security module forbids it; allow io_setup, io_submit, io_getevents, io_cancel and io_destroy".into(),
        Errno::ENOMEM => "the kernel has no memory for a context".into(),
        _ => String::new(),
    };
    KernelError::new("io_setup", errno).hint(hint)
}

/// What to do when fs.aio-max-nr is `max`, `taken` are taken and `needed` are needed.
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
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Iocb>(), 64);
        assert_eq!(size_of::<Event>(), 32);
    }

    #[test]
    fn a_hint_names_the_limit_what_is_taken_and_what_to_type() {
        assert_eq!(
            out_of_slots(65_536, 65_000, 2_133),
            "fs.aio-max-nr is 65536, of which 65000 are taken, and 2133 more are needed; raise it with sysctl -w fs.aio-max-nr=131072"
        );
    }

    #[test]
    fn more_than_the_system_has_is_refused_with_that_hint() {
        // The kernel's own limit is 2^28 bytes of io_event, twice as many as are asked for.
        match Context::setup(4_000_000) {
            Err(error) if error.errno == Errno::EAGAIN => {
                assert!(error.hint.contains("sysctl -w fs.aio-max-nr="), "{error}");
            }
            Err(error) => assert_ne!(error.errno, Errno::EINVAL, "{error}"),
            Ok(context) => context.destroy(),
        }
    }
}
