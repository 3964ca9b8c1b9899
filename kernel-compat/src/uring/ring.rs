//! An open ring and its system calls.
//!
//! This module makes the system calls itself instead of using the submitter of the `io-uring`
//! crate: the index of a registered ring descriptor has to be stored beside the ring, and the crate
//! does not support all wait flags below.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::{mem, ptr};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

use crate::buffer::ChunkMemory;
use crate::limits::open_files_limit;
use crate::uring::setup::{RingFeatures, set_up};
use crate::{Errno, KernelError, Mono};

// include/uapi/linux/io_uring.h
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Chunks of the buffer pool that can be registered. Later chunks are used unregistered.
const CHUNK_TABLE: u32 = 1024;

/// An open ring. It stays on its thread: a registered ring descriptor is invalid on other threads.
pub(crate) struct Ring {
    ring: IoUring,
    /// How `enter` refers to the ring: its descriptor or its registered index.
    handle: i32,
    enter_flags: u32,
    pub(crate) features: RingFeatures,
    not_send: PhantomData<*mut ()>,
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.features.registered_ring_fd {
            // The registration keeps the ring, and all its files, open until the thread ends.
            let fd = self.ring.as_raw_fd();
            register_index(UNREGISTER_RING_FDS, fd, self.handle.cast_unsigned(), 0);
        }
    }
}

impl Ring {
    /// Opens a ring of `entries`, or fewer if locked memory is short. Call it on the thread that
    /// will use the ring.
    pub(crate) fn open(entries: u32) -> Result<Ring, KernelError> {
        let (ring, mut features) = set_up(entries)?;
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

    /// The handle for registering files and buffers.
    pub(crate) fn registrar(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Free entries of the submission queue.
    pub(crate) fn free_sqes(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Queues SQEs, all or none.
    ///
    /// # Safety
    /// All memory that the SQEs name must stay valid until the kernel no longer uses it.
    pub(crate) unsafe fn push(&mut self, sqes: &[squeue::Entry]) -> bool {
        // SAFETY: the caller guarantees what push_multiple requires.
        unsafe { self.ring.submission().push_multiple(sqes) }.is_ok()
    }

    /// Takes the next completion from the queue.
    pub(crate) fn pop(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Registers empty tables for `files` files (bounded by RLIMIT_NOFILE) and for the chunks of
    /// the buffer pool. Returns the size of the file table, or 0 if there is none.
    pub(crate) fn open_tables(&mut self, files: u32) -> u32 {
        let limit = u32::try_from(open_files_limit()).unwrap_or(u32::MAX);
        let files = files.min(limit);
        let registrar = self.ring.submitter();
        let buffers = registrar.register_buffers_sparse(CHUNK_TABLE).is_ok();
        let registered = registrar.register_files_sparse(files).is_ok()
            // Linux before 5.19 needs an explicit list for an empty table. -1 is an empty entry
            // since 5.5.
            || registrar.register_files(&vec![-1; files as usize]).is_ok();
        // Zeros only query the limits. Before Linux 5.18 an unknown operation waits until the ring
        // is idle (io_uring.c, io_register_op_must_quiesce): forever, once a poll or a hanging read
        // is in flight. So it is tried here, before the first one, and never again if it is
        // unknown.
        let bounded = registrar.register_iowq_max_workers(&mut [0, 0]).is_ok();
        self.features.bounded_workers = bounded;
        self.features.registered_buffers = buffers;
        self.features.registered_files = registered;
        if registered { files } else { 0 }
    }

    /// Removes the file table.
    pub(crate) fn close_file_table(&mut self) {
        let _ = self.ring.submitter().unregister_files();
        self.features.registered_files = false;
    }

    /// Registers a chunk of the buffer pool under its own index. Returns whether that worked.
    pub(crate) fn register_chunk(&self, memory: ChunkMemory) -> bool {
        if !self.features.registered_buffers || memory.index >= CHUNK_TABLE {
            return false;
        }
        let chunk = libc::iovec {
            iov_base: memory.start.as_ptr().cast(),
            iov_len: memory.len,
        };
        let registrar = self.ring.submitter();
        // SAFETY: the pool owns the chunk. It frees the chunk after the ring was closed, or leaks
        // it if a read may still write into it. The kernel also pins the pages.
        unsafe { registrar.register_buffers_update(memory.index, &[chunk], None) }.is_ok()
    }

    /// Allows this many kernel threads of each kind, if the kernel supports that. The two kinds
    /// serve files whose reads should end soon, and all others. A read that goes to a kernel thread
    /// at once counts as the second kind, because the kernel has not looked at its file yet.
    pub(crate) fn allow_workers(&self, workers: u32) {
        if self.features.bounded_workers {
            let _ = (self.registrar()).register_iowq_max_workers(&mut [workers, workers]);
        }
    }

    /// Submits queued SQEs. Returns whether the kernel took all of them.
    pub(crate) fn flush(&mut self) -> bool {
        self.ring.submission().is_empty()
            || (self.submit().is_ok() && self.ring.submission().is_empty())
    }

    /// Submits queued SQEs without waiting.
    pub(crate) fn submit(&mut self) -> Result<(), Errno> {
        self.enter(0, 0, None)
    }

    /// Submits queued SQEs and waits for `want` completions, but not beyond `until`. After
    /// `min_wait_us` one completion is enough; this applies only with [`RingFeatures::min_wait`].
    /// If `want` is 0, the kernel only posts the completions that are ready.
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
        // SAFETY: io_uring_enter(2). SubmitArgs is a transparent io_uring_getevents_arg. The kernel
        // reads it and its timespec only during the call. The callers of `push` guarantee that the
        // memory named by the SQEs stays valid.
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

/// Registers the ring's descriptor with this thread. Returns its index.
fn register_ring_fd(fd: i32) -> Option<i32> {
    register_index(REGISTER_RING_FDS, fd, u32::MAX, u64::try_from(fd).ok()?)
}

/// io_uring_register(2) with one io_uring_rsrc_update. Returns its index field after the call.
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
    // SAFETY: this function owns `update`, and the kernel accesses it only during the call.
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
