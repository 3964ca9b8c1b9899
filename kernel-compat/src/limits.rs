//! Limits of the process, and an exit that nothing can delay.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit. Returns the limit that is now in force
/// (`u64::MAX` for none).
///
/// Call this from a program's `main`, not from a library: it changes the whole process. The kernel
/// checks a ring's file table against this limit, although registered files need no descriptors
/// (`io_sqe_files_register` in the kernel's io_uring/rsrc.c).
pub fn raise_open_files_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    in_force.unwrap_or(u64::MAX)
}

/// The soft limit of open files.
pub(crate) fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The soft limit of locked memory in bytes. `None` means no limit.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Ends the process at once: no destructors, no exit handlers, no waiting for threads.
///
/// Use it as the last resort when a stop must not be delayed: `std::process::exit` runs handlers
/// that may wait for a lock held by a blocked thread.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes no memory and does not return. The kernel frees what the process
    // owned.
    unsafe { libc::_exit(status) }
}
