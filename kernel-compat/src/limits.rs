//! Limits of the process that the engine meets, and the one way out that nothing can delay.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns the limit now in force
/// (`u64::MAX` for none).
///
/// For a program's `main`, not for a library: it changes the whole process. A ring's file table
/// is checked against this limit although registered files need no descriptors
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

/// The soft limit of locked memory in bytes; `None` for no limit.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Ends the process at once: no destructors, no exit handlers, no waiting for threads.
///
/// The last resort of a stop that must not be late: `std::process::exit` runs handlers that may
/// wait for a lock which a blocked thread holds.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes no memory and does not return; the kernel frees what the process
    // owned.
    unsafe { libc::_exit(status) }
}
