//! Reads made by threads, each of which its device may block: what the backend over threads and the
//! isolating one have in common.
//!
//! It owns targets, flights and deadlines (`read_tracker.rs`) and the threads (`pool.rs`), and never
//! waits: its owner waits for what the threads ring, and calls [`ThreadReads::advance`].

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::io::ReadWriteFlags;

use crate::backend::{self, Completion, Op, OpId, Outcome, Reject, Stage, Stats, TargetId};
use crate::closing::{Closing, SharedFile};
use crate::errno::KernelResult;
use crate::read_tracker::{Accepted, Desk};
use crate::threads::pool::{Call, Threads, Whereabouts};
use crate::{Errno, KernelError, Key, Mono, Waker};

/// Targets that threads read, and the reads in flight.
pub(crate) struct ThreadReads {
    desk: Desk<Stage>,
    threads: Threads<Pread>,
    results: Vec<(Key, KernelResult)>,
    /// Files wait for a thread that closes them.
    closing: bool,
}

/// One read by a thread.
struct Pread {
    file: Arc<SharedFile>,
    address: NonNull<u8>,
    op: Op,
}

// SAFETY: the buffer at `address` is owned by the table of flights until this read's result is
// taken, and touched by nobody else; if the backend is dropped before, the buffer pool leaks it.
unsafe impl Send for Pread {}

impl Call for Pread {
    fn run(self) -> Option<KernelResult> {
        // SAFETY: see `Send`; buffers are initialised, and at least `len` bytes long.
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
            // No preadv2 (before Linux 4.6, or filtered): then no file takes nowait.
            Err(Errno::ENOSYS) if self.op.nowait => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(errno),
        })
    }
}

impl ThreadReads {
    /// No target yet, and never more threads than `max`. `done` is rung when reads have ended.
    pub(crate) fn new(max: usize, done: Waker) -> ThreadReads {
        ThreadReads {
            desk: Desk::new(),
            threads: Threads::new(max, done),
            results: Vec::new(),
            closing: false,
        }
    }

    /// Proves that a thread can be had.
    ///
    /// # Errors
    /// `clone`, with the limits that may be in the way.
    pub(crate) fn probe(&self) -> Result<(), KernelError> {
        self.threads.probe()
    }

    pub(crate) fn attach(&mut self, file: OwnedFd) -> TargetId {
        self.desk.attach(file)
    }

    /// Gives a target up; a thread closes its file, after its reads.
    pub(crate) fn detach(&mut self, target: TargetId) -> Closing {
        let Some(file) = self.desk.targets.remove(target.0) else {
            return Closing::nothing();
        };
        let closing = file.closing();
        self.threads.chore(Box::new(move || drop(file)));
        self.closing = true;
        closing
    }

    /// Gives all targets up, and accepts nothing any more. Who waits for their files then has to call
    /// [`ThreadReads::advance`] now and then.
    pub(crate) fn close(&mut self) -> Vec<Closing> {
        self.desk.closed = true;
        let targets = backend::ids_of(&self.desk.targets).into_iter();
        targets.map(|id| self.detach(id)).collect()
    }

    /// Queues a read for the next `advance`. `stage` is where it counts as being while its thread
    /// is blocked.
    pub(crate) fn submit(&mut self, op: Op, stage: Stage) -> Result<OpId, Reject> {
        self.desk.check(&op)?;
        if self.threads.are_exhausted() {
            return Err(Reject::Full);
        }
        let Accepted { id, file, address } = self.desk.accept(op, stage)?;
        self.threads.read(id.0, Pread { file, address, op });
        Ok(id)
    }

    /// Withdraws a read that waits for a thread.
    pub(crate) fn cancel(&mut self, id: OpId) {
        if self.threads.take_back(id.0) {
            self.desk.withdrawn(id, Outcome::Cancelled);
        }
    }

    /// Gets reads to threads, and takes what has ended or expired. Returns when to call it again,
    /// should no thread ring before.
    pub(crate) fn advance(&mut self) -> Option<Mono> {
        let again = self.threads.dispatch();
        self.closing = again.is_some();
        self.take_results();
        self.expire();
        debug_assert!(self.threads.abandoned() <= self.desk.stats.stuck);
        self.desk.next_deadline().into_iter().chain(again).min()
    }

    fn take_results(&mut self) {
        let mut results = std::mem::take(&mut self.results);
        self.threads.results(&mut results);
        for (key, result) in results.drain(..) {
            if self.desk.ended(OpId(key), result).is_none() {
                self.desk.stats.strays += 1;
            }
        }
        self.results = results;
    }

    fn expire(&mut self) {
        let now = Mono::now();
        while let Some(id) = self.desk.overdue(now) {
            match (self.threads.give_up(id.0), self.desk.place(id)) {
                (Whereabouts::TakenBack, _) => {
                    self.desk.withdrawn(id, Outcome::NotStarted);
                }
                (Whereabouts::Running, Some(&mut stage)) => self.desk.expired(id, stage),
                // Its result came since the last look: it is not late, we are.
                _ => self.take_results(),
            }
        }
    }

    /// Hands over what is to be told; says whether there was anything.
    pub(crate) fn hand_over(&mut self, completions: &mut Vec<Completion>) -> bool {
        self.desk.hand_over(completions)
    }

    /// All reads that have not ended.
    pub(crate) fn reads(&self) -> Vec<OpId> {
        self.desk.places().map(|(id, _)| id).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.desk.stats
    }

    /// A system call was made to wait for reads of these.
    pub(crate) fn count_syscall(&mut self) {
        self.desk.stats.syscalls += 1;
    }

    /// Whether there is anything to advance.
    pub(crate) fn is_unused(&self) -> bool {
        self.desk.stats.in_flight == 0 && !self.desk.has_untold() && !self.closing
    }
}

impl Drop for ThreadReads {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.desk.targets);
        if !targets.is_empty() {
            self.threads.chore(Box::new(move || drop(targets)));
        }
    }
}
