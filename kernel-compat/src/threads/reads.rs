//! Reads made by threads, each of which may block its thread. The thread backend and the isolating
//! backend share this code.
//!
//! It owns targets, flights and deadlines (`read_tracker.rs`) and the threads (`pool.rs`). It never
//! waits: its owner waits until the threads signal, and then calls [`ThreadReads::advance`].

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::io::ReadWriteFlags;

use crate::backend::{self, Completion, Op, OpId, Outcome, Reject, Stage, Stats, TargetId};
use crate::closing::{Closing, SharedFile};
use crate::errno::KernelResult;
use crate::read_tracker::{Accepted, ReadTracker};
use crate::threads::pool::{Call, CancelResult, Threads};
use crate::{Errno, KernelError, Key, Mono, Waker};

/// Targets that threads read, and the reads in flight.
pub(crate) struct ThreadReads {
    tracker: ReadTracker<Stage>,
    threads: Threads<BlockingRead>,
    results: Vec<(Key, KernelResult)>,
    /// Files are waiting for a thread that closes them.
    closing: bool,
}

/// One read made by a thread.
struct BlockingRead {
    file: Arc<SharedFile>,
    address: NonNull<u8>,
    op: Op,
}

// SAFETY: the table of flights owns the buffer at `address` until this read's result is taken, and
// nothing else accesses it. If the backend is dropped before, the buffer pool leaks it.
unsafe impl Send for BlockingRead {}

impl Call for BlockingRead {
    fn run(self) -> Option<KernelResult> {
        // SAFETY: see `Send`. Buffers are initialised, and at least `len` bytes long.
        let buffer =
            unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.op.len as usize) };
        let offset = self.op.offset;
        let read = if self.op.nowait {
            let buffers = &mut [IoSliceMut::new(buffer)];
            rustix::io::preadv2(&self.file, buffers, offset, ReadWriteFlags::NOWAIT)
        } else {
            rustix::io::pread(&self.file, buffer, offset)
        };
        Some(match read.map_err(Errno::from) {
            Ok(bytes) => Ok(u32::try_from(bytes).unwrap_or(u32::MAX)),
            // There is no preadv2 (before Linux 4.6, or blocked by a filter). Then no file supports
            // nowait.
            Err(Errno::ENOSYS) if self.op.nowait => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(errno),
        })
    }
}

impl ThreadReads {
    /// Starts without targets and threads, and never uses more than `max` threads. The threads
    /// signal `done` when reads have ended.
    pub(crate) fn new(max: usize, done: Waker) -> ThreadReads {
        ThreadReads {
            tracker: ReadTracker::new(),
            threads: Threads::new(max, done),
            results: Vec::new(),
            closing: false,
        }
    }

    /// Verifies that a thread can be started.
    ///
    /// # Errors
    /// `clone`, with the limits that may be the cause.
    pub(crate) fn probe(&self) -> Result<(), KernelError> {
        self.threads.probe()
    }

    pub(crate) fn attach(&mut self, file: OwnedFd) -> TargetId {
        self.tracker.attach(file)
    }

    /// Gives up a target. A thread closes its file after its reads have ended.
    pub(crate) fn detach(&mut self, target: TargetId) -> Closing {
        let Some(file) = self.tracker.targets.remove(target.0) else {
            return Closing::nothing();
        };
        let closing = file.closing();
        self.threads.run_in_background(Box::new(move || drop(file)));
        self.closing = true;
        closing
    }

    /// Gives up all targets and refuses all further reads. A caller that waits for the files has to
    /// call [`ThreadReads::advance`] at short intervals.
    pub(crate) fn close(&mut self) -> Vec<Closing> {
        self.tracker.closed = true;
        let targets = backend::ids_of(&self.tracker.targets).into_iter();
        targets.map(|id| self.detach(id)).collect()
    }

    /// Queues a read for the next `advance`. `stage` is the stage of the read while its thread is
    /// blocked.
    pub(crate) fn submit(&mut self, op: Op, stage: Stage) -> Result<OpId, Reject> {
        self.tracker.check(&op)?;
        if self.threads.are_exhausted() {
            return Err(Reject::Full);
        }
        let Accepted { id, file, address } = self.tracker.accept(op, stage)?;
        self.threads
            .queue_read(id.0, BlockingRead { file, address, op });
        Ok(id)
    }

    /// Withdraws a read that waits for a thread.
    pub(crate) fn cancel(&mut self, id: OpId) {
        if self.threads.remove_queued(id.0) {
            self.tracker.withdraw(id, Outcome::Cancelled);
        }
    }

    /// Passes reads to threads, and handles reads that have ended or expired. Returns when to call
    /// it again if no thread signals before.
    pub(crate) fn advance(&mut self) -> Option<Mono> {
        let next_dispatch = self.threads.dispatch();
        self.closing = next_dispatch.is_some();
        self.take_results();
        self.expire();
        debug_assert!(self.threads.abandoned() <= self.tracker.stats.stuck);
        self.tracker
            .next_deadline()
            .into_iter()
            .chain(next_dispatch)
            .min()
    }

    fn take_results(&mut self) {
        let mut results = std::mem::take(&mut self.results);
        self.threads.take_results(&mut results);
        for (key, result) in results.drain(..) {
            if self.tracker.complete(OpId(key), result).is_none() {
                self.tracker.stats.unknown_completions += 1;
            }
        }
        self.results = results;
    }

    fn expire(&mut self) {
        let now = Mono::now();
        while let Some(id) = self.tracker.pop_overdue(now) {
            match (self.threads.abandon(id.0), self.tracker.state_mut(id)) {
                (CancelResult::Removed, _) => {
                    self.tracker.withdraw(id, Outcome::NotStarted);
                }
                (CancelResult::Running, Some(&mut stage)) => self.tracker.expire(id, stage),
                // Its result has arrived since `take_results`: this thread is late, not the read.
                _ => self.take_results(),
            }
        }
    }

    /// Moves completions to `completions`. Returns whether there were any.
    pub(crate) fn take_completions(&mut self, completions: &mut Vec<Completion>) -> bool {
        self.tracker.take_completions(completions)
    }

    /// The ids of all reads that have not ended.
    pub(crate) fn ids(&self) -> Vec<OpId> {
        self.tracker.states().map(|(id, _)| id).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.tracker.stats
    }

    /// Counts a system call made to wait for these reads.
    pub(crate) fn count_syscall(&mut self) {
        self.tracker.stats.syscalls += 1;
    }

    /// Whether there is nothing to advance.
    pub(crate) fn is_unused(&self) -> bool {
        self.tracker.stats.in_flight == 0 && !self.tracker.has_unreported() && !self.closing
    }
}

impl Drop for ThreadReads {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.tracker.targets);
        if !targets.is_empty() {
            self.threads
                .run_in_background(Box::new(move || drop(targets)));
        }
    }
}
