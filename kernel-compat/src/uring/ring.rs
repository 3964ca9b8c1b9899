//! A ring set up with the best flags this kernel takes, and the one call that enters it.
//!
//! The system calls are made here and not through the `io-uring` crate's submitter: a registered
//! ring descriptor has to be remembered beside the ring, and the waiting flags below are not all
//! within its reach.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::{mem, ptr};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, cqueue, squeue};

use crate::buffer::ChunkMemory;
use crate::limits::{locked_memory_limit, open_files_limit};
use crate::{Errno, KernelError, Mono, probe};

// include/uapi/linux/io_uring.h
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Chunks of the buffer pool that can be registered; later ones are used unregistered.
const CHUNK_TABLE: u32 = 1024;

/// Which of the optional features of io_uring are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// Completions are worked off when the worker asks, not by interrupting it
    /// (`IORING_SETUP_DEFER_TASKRUN`, Linux 6.1).
    pub defer_taskrun: bool,
    /// The next best: no interrupt for completions (`IORING_SETUP_COOP_TASKRUN`, 5.19).
    pub coop_taskrun: bool,
    /// The ring is entered without looking its descriptor up (5.18).
    pub registered_ring_fd: bool,
    /// Files are kept by the ring, without descriptors.
    pub registered_files: bool,
    /// Buffers are pinned once and not for each read (`READ_FIXED`, sparse table: 5.19).
    pub registered_buffers: bool,
    /// Waiting for a batch has a short first limit (6.12).
    pub min_wait: bool,
    /// An idle worker is not shown as waiting for I/O (6.15).
    pub no_iowait: bool,
    /// The number of kernel threads can be bounded (`IORING_REGISTER_IOWQ_MAX_WORKERS`, 5.15).
    pub bounded_workers: bool,
    /// Entries of the submission queue.
    pub sq_entries: u32,
    /// Entries of the completion queue.
    pub cq_entries: u32,
}

/// How to open a [`Uring`](crate::Uring).
#[derive(Clone, Copy, Debug)]
pub struct UringConfig {
    /// Entries of the submission queue; a read takes two. Rounded up to a power of two, and less
    /// where locked memory is short.
    pub entries: u32,
    /// How many files the ring can keep without their descriptors; bounded by RLIMIT_NOFILE. More
    /// files than these keep their descriptors.
    pub files: u32,
    /// Whether reads with nowait are linked to their deadlines, so that the kernel says which came
    /// first. Otherwise these are watched here, as those of all other reads are: that takes little more
    /// than half of the CPU time, and what ends while the worker is late counts as in time.
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

/// An open ring. Stays on its thread: a registered ring descriptor means nothing on another.
pub(crate) struct Ring {
    ring: IoUring,
    /// What `enter` names the ring by: its descriptor or its registered index.
    handle: i32,
    enter_flags: u32,
    pub(crate) features: RingFeatures,
    not_send: PhantomData<*mut ()>,
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.features.registered_ring_fd {
            // The registration holds the ring, and with it all files, open until the thread ends.
            let fd = self.ring.as_raw_fd();
            register_index(UNREGISTER_RING_FDS, fd, self.handle.cast_unsigned(), 0);
        }
    }
}

type Flags = (fn(&mut Builder) -> &mut Builder, bool, bool);

/// The sets of setup flags, best first: (set them, defers task work, cooperates).
const FLAG_SETS: [Flags; 4] = [
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

impl Ring {
    /// Opens a ring of `entries`, with fewer where locked memory is short. Has to be called on the
    /// thread that will use it.
    pub(crate) fn open(entries: u32) -> Result<Ring, KernelError> {
        let mut entries = entries.next_power_of_two();
        let (ring, defer, coop) = loop {
            match open_best(entries) {
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
        let mut features = RingFeatures {
            defer_taskrun: defer,
            coop_taskrun: coop,
            min_wait: params.is_feature_min_timeout(),
            no_iowait: params.is_feature_no_iowait(),
            sq_entries: params.sq_entries(),
            cq_entries: params.cq_entries(),
            ..RingFeatures::default()
        };
        let mut enter_flags = if features.no_iowait {
            ENTER_NO_IOWAIT
        } else {
            0
        };
        let mut handle = ring.as_raw_fd();
        if let Some(index) = register_ring_fd(handle) {
            features.registered_ring_fd = true;
            enter_flags |= ENTER_REGISTERED_RING;
            handle = index;
        }
        Ok(Ring {
            ring,
            handle,
            enter_flags,
            features,
            not_send: PhantomData,
        })
    }

    /// For registering files and buffers.
    pub(crate) fn registrar(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Room left in the submission queue.
    pub(crate) fn room(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Queues entries, all or none.
    ///
    /// # Safety
    /// All memory that the entries name has to stay valid until the kernel no longer uses it.
    pub(crate) unsafe fn push(&mut self, entries: &[squeue::Entry]) -> bool {
        // SAFETY: the caller's promise is the one that push_multiple asks for.
        unsafe { self.ring.submission().push_multiple(entries) }.is_ok()
    }

    /// Takes the next completion that is there.
    pub(crate) fn pop(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Makes the tables for `files` files (bounded by RLIMIT_NOFILE) and for the chunks of the
    /// buffer pool, empty; returns how many files there is room for.
    pub(crate) fn open_tables(&mut self, files: u32) -> u32 {
        let limit = u32::try_from(open_files_limit()).unwrap_or(u32::MAX);
        let files = files.min(limit);
        let registrar = self.ring.submitter();
        let buffers = registrar.register_buffers_sparse(CHUNK_TABLE).is_ok();
        let registered = registrar.register_files_sparse(files).is_ok()
            // Before Linux 5.19 an empty table is written out; -1 is an empty place since 5.5.
            || registrar.register_files(&vec![-1; files as usize]).is_ok();
        // Zeros only ask. Before Linux 5.18 an unknown operation waits until the ring is idle
        // (io_uring.c, io_register_op_must_quiesce): for ever, once there is a poll or a read that
        // hangs. So it is asked here, before the first one, and never again where it is unknown.
        let bounded = registrar.register_iowq_max_workers(&mut [0, 0]).is_ok();
        self.features.bounded_workers = bounded;
        self.features.registered_buffers = buffers;
        // A file that is given up has to be free at once, whatever other reads are in flight.
        let registered = registered
            && match probe::gives_files_back(self) {
                Ok(true) => true,
                Ok(false) | Err(_) => {
                    let _ = self.ring.submitter().unregister_files();
                    false
                }
            };
        self.features.registered_files = registered;
        if registered { files } else { 0 }
    }

    /// Registers a chunk of the buffer pool under its own number; says whether that worked.
    pub(crate) fn register_chunk(&self, memory: ChunkMemory) -> bool {
        if !self.features.registered_buffers || memory.index >= CHUNK_TABLE {
            return false;
        }
        let chunk = libc::iovec {
            iov_base: memory.start.as_ptr().cast(),
            iov_len: memory.len,
        };
        let registrar = self.ring.submitter();
        // SAFETY: the chunk is owned by the pool, which frees it after the ring was closed, or
        // leaks it when a read still writes into it. The kernel pins the pages besides.
        unsafe { registrar.register_buffers_update(memory.index, &[chunk], None) }.is_ok()
    }

    /// Allows so many kernel threads of each kind, where the kernel can be told. There are two
    /// kinds, for files whose reads ought to end soon and for others, and a read that goes to a
    /// thread at once counts as the other kind: the kernel has not looked at its file then.
    pub(crate) fn allow_workers(&self, workers: u32) {
        if self.features.bounded_workers {
            let _ = (self.registrar()).register_iowq_max_workers(&mut [workers, workers]);
        }
    }

    /// Whether everything that was queued is with the kernel; tries to get it there.
    pub(crate) fn flush(&mut self) -> bool {
        self.ring.submission().is_empty()
            || (self.submit().is_ok() && self.ring.submission().is_empty())
    }

    /// Submits what is queued without waiting.
    pub(crate) fn submit(&mut self) -> Result<(), Errno> {
        self.enter(0, 0, None)
    }

    /// Submits what is queued and waits for `want` completions, until `until` at the longest.
    /// `min_wait_us` is how long to wait for all of them before one is enough; it counts only
    /// where [`RingFeatures::min_wait`] is. Without any to wait for, the kernel only posts those
    /// that it has ready.
    pub(crate) fn submit_and_wait(
        &mut self,
        want: u32,
        min_wait_us: u32,
        until: Option<Mono>,
    ) -> Result<(), Errno> {
        if want == 0 {
            return self.enter(0, ENTER_GETEVENTS, None);
        }
        let mut args = SubmitArgs::new();
        let timespec;
        if let Some(until) = until {
            timespec = Timespec::from(until.since(Mono::now()));
            args = args.timespec(&timespec);
        }
        if self.features.min_wait && want > 1 {
            args = args.min_wait_usec(min_wait_us);
        }
        match self.enter(want, ENTER_GETEVENTS | ENTER_EXT_ARG, Some(&args)) {
            Err(Errno::ETIME | Errno::EINTR) => Ok(()),
            result => result,
        }
    }

    fn enter(&mut self, want: u32, flags: u32, args: Option<&SubmitArgs>) -> Result<(), Errno> {
        let queued = self.ring.submission().len() as u32;
        let (arg, size) = match args {
            Some(args) => (ptr::from_ref(args), mem::size_of::<SubmitArgs>()),
            None => (ptr::null(), 0),
        };
        let flags = flags | self.enter_flags;
        // SAFETY: io_uring_enter(2). SubmitArgs is a transparent io_uring_getevents_arg, which
        // like the timespec in it is only read during the call. Whoever pushed the entries
        // promised that the memory they name stays valid.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.handle,
                queued,
                want,
                flags,
                arg,
                size,
            )
        };
        if ret < 0 {
            return Err(Errno::of(&io::Error::last_os_error()));
        }
        Ok(())
    }
}

fn open_best(entries: u32) -> io::Result<(IoUring, bool, bool)> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for (set, defer, coop) in FLAG_SETS {
        let mut builder = IoUring::builder();
        // Each read makes two completions, and all of a slot's reads may end together.
        builder.setup_clamp().setup_cqsize(entries * 8);
        match set(&mut builder).build(entries) {
            Ok(ring) => return Ok((ring, defer, coop)),
            Err(error) if Errno::of(&error) == Errno::EINVAL => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Registers the ring's descriptor with this thread; returns its index.
fn register_ring_fd(fd: i32) -> Option<i32> {
    register_index(REGISTER_RING_FDS, fd, u32::MAX, u64::try_from(fd).ok()?)
}

/// io_uring_register(2) with one io_uring_rsrc_update; returns the index in it afterwards.
fn register_index(opcode: u32, ring: i32, index: u32, data: u64) -> Option<i32> {
    #[repr(C)]
    struct RsrcUpdate {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let mut update = RsrcUpdate {
        offset: index,
        reserved: 0,
        data,
    };
    // SAFETY: `update` is owned by this function, and the kernel reads and writes it during the
    // call only.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            opcode,
            &raw mut update,
            1,
        )
    };
    (ret == 1).then_some(update.offset.cast_signed())
}

/// What a failed setup means; the causes are those that distributions and containers have.
fn setup_error(error: &io::Error) -> KernelError {
    let errno = Errno::of(error);
    let hint = match errno {
        Errno::ENOSYS => {
            "this kernel has no io_uring (before Linux 5.1, or built without), or a seccomp filter hides it (podman's default does)".into()
        }
        Errno::EPERM => match disabled_by_sysctl() {
            Some(value) => format!("switched off by kernel.io_uring_disabled={value}; allow it with sysctl -w kernel.io_uring_disabled=0"),
            None => "a seccomp filter forbids it (the default of Docker and containerd); allow io_uring_setup, io_uring_enter and io_uring_register in the profile".into(),
        },
        Errno::EACCES => "the security module (SELinux) forbids it".into(),
        Errno::ENOMEM => match locked_memory_limit() {
            Some(limit) => format!("RLIMIT_MEMLOCK is {limit} bytes; raise it with ulimit -l, or LimitMEMLOCK= in the unit"),
            None => "the kernel has no memory for a ring".into(),
        },
        Errno::EMFILE => "the process has no descriptor left for the ring; raise RLIMIT_NOFILE (ulimit -n)".into(),
        _ => String::new(),
    };
    KernelError::new("io_uring_setup", errno).hint(hint)
}

fn disabled_by_sysctl() -> Option<u8> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    value.trim().parse().ok().filter(|value| *value > 0)
}
