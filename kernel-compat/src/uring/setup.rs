//! Sets up a ring with the best flags that this kernel supports.

use std::io;

use io_uring::{Builder, IoUring};

use crate::limits::locked_memory_limit;
use crate::{Errno, KernelError};

/// The optional features of io_uring in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// Task work runs when the worker enters the kernel, not by interrupting it
    /// (`IORING_SETUP_DEFER_TASKRUN`, Linux 6.1).
    pub defer_taskrun: bool,
    /// Second choice: task work does not interrupt the worker (`IORING_SETUP_COOP_TASKRUN`, 5.19).
    pub coop_taskrun: bool,
    /// The ring's descriptor is registered, which saves a lookup in each call (5.18).
    pub registered_ring_fd: bool,
    /// The ring holds the files, without descriptors.
    pub registered_files: bool,
    /// Buffers are pinned once instead of for each read (`READ_FIXED`, sparse table: 5.19).
    pub registered_buffers: bool,
    /// A wait for a batch has a short first time limit (6.12).
    pub min_wait: bool,
    /// An idle worker does not count as waiting for I/O (6.15).
    pub no_iowait: bool,
    /// The number of kernel threads is bounded (`IORING_REGISTER_IOWQ_MAX_WORKERS`, 5.15).
    pub bounded_workers: bool,
    /// Size of the submission queue.
    pub sq_entries: u32,
    /// Size of the completion queue.
    pub cq_entries: u32,
}

/// How to open a [`Uring`](crate::Uring).
#[derive(Clone, Copy, Debug)]
pub struct UringConfig {
    /// Size of the submission queue; a read takes up to two entries. Rounded up to a power of two,
    /// and reduced if locked memory is short.
    pub entries: u32,
    /// How many files the ring can hold without descriptors, bounded by RLIMIT_NOFILE. Further
    /// files keep their descriptors.
    pub files: u32,
    /// Whether reads with nowait are linked to their deadlines, so that the kernel decides which
    /// came first. Otherwise the backend watches these deadlines, as it does for all other reads.
    /// That takes little more than half of the CPU time, and a read that ends while the worker is
    /// late counts as in time.
    pub linked_timeouts: bool,
}

impl Default for UringConfig {
    fn default() -> UringConfig {
        UringConfig {
            entries: 1024,
            files: 16_384,
            linked_timeouts: true,
        }
    }
}

type SetupFlags = (fn(&mut Builder) -> &mut Builder, bool, bool);

/// The sets of setup flags, best first: (setter, defer_taskrun, coop_taskrun).
const FLAG_SETS: [SetupFlags; 4] = [
    (
        |b| {
            b.setup_single_issuer()
                .setup_defer_taskrun()
                .setup_submit_all()
        },
        true,
        false,
    ),
    (|b| b.setup_coop_taskrun().setup_submit_all(), false, true),
    (|b| b.setup_submit_all(), false, false),
    (|b| b, false, false),
];

/// Sets up a ring of `entries`, or fewer if locked memory is short. Returns the features that the
/// kernel reports.
pub(super) fn set_up(entries: u32) -> Result<(IoUring, RingFeatures), KernelError> {
    let mut entries = entries.next_power_of_two();
    let (ring, defer, coop) = loop {
        match open_with_best_flags(entries) {
            Err(error) if Errno::of(&error) == Errno::ENOMEM && entries > 8 => entries /= 4,
            Err(error) => return Err(setup_error(&error)),
            Ok(opened) => break opened,
        }
    };
    let params = ring.params();
    if !params.is_feature_nodrop() || !params.is_feature_ext_arg() {
        return Err(KernelError::new("io_uring_setup", Errno::EOPNOTSUPP).hint(
            "this kernel's io_uring lacks IORING_FEAT_NODROP or IORING_FEAT_EXT_ARG (Linux 5.11)",
        ));
    }
    let features = RingFeatures {
        defer_taskrun: defer,
        coop_taskrun: coop,
        min_wait: params.is_feature_min_timeout(),
        no_iowait: params.is_feature_no_iowait(),
        sq_entries: params.sq_entries(),
        cq_entries: params.cq_entries(),
        ..RingFeatures::default()
    };
    Ok((ring, features))
}

fn open_with_best_flags(entries: u32) -> io::Result<(IoUring, bool, bool)> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for (set, defer, coop) in FLAG_SETS {
        let mut builder = IoUring::builder();
        // Each read makes two completions, and all reads in a slot may end together.
        builder.setup_clamp().setup_cqsize(entries * 8);
        match set(&mut builder).build(entries) {
            Ok(ring) => return Ok((ring, defer, coop)),
            Err(error) if Errno::of(&error) == Errno::EINVAL => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Turns a failed setup into an error. The hints cover the causes in distributions and containers.
fn setup_error(error: &io::Error) -> KernelError {
    let errno = Errno::of(error);
    let hint = match errno {
        Errno::ENOSYS => {
            "this kernel has no io_uring (before Linux 5.1, or built without), or a seccomp filter blocks it (podman's default does)".into()
        }
        Errno::EPERM => match disabled_by_sysctl() {
            Some(value) => format!("disabled by kernel.io_uring_disabled={value}; enable it with sysctl -w kernel.io_uring_disabled=0"),
            None => "a seccomp filter forbids it (the default of Docker and containerd); allow io_uring_setup, io_uring_enter and io_uring_register in the profile".into(),
        },
        Errno::EACCES => "the security module (SELinux) forbids it".into(),
        Errno::ENOMEM => match locked_memory_limit() {
            Some(limit) => format!("RLIMIT_MEMLOCK is {limit} bytes; raise it with ulimit -l, or LimitMEMLOCK= in the unit"),
            None => "the kernel has not enough memory for a ring".into(),
        },
        Errno::EMFILE => "no file descriptor is left for the ring; raise RLIMIT_NOFILE (ulimit -n)".into(),
        _ => String::new(),
    };
    KernelError::new("io_uring_setup", errno).hint(hint)
}

fn disabled_by_sysctl() -> Option<u8> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    value.trim().parse().ok().filter(|value| *value > 0)
}
