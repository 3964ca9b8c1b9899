//! The io_uring backend: one ring, one thread.
//!
//! A read with nowait is linked to its deadline, unless the configuration disables that. The read
//! and its LINK_TIMEOUT make two completions; `linked_timeout.rs` describes what these mean
//! together. The backend itself watches the deadlines of other reads; `async_cancel.rs` describes
//! why and how. A flight leaves the table at its last completion.
//!
//! A target that was given up keeps its file until its reads have ended. A registered file then
//! gets a descriptor (`FIXED_FD_INSTALL`), so that a thread can close it. The last close may take
//! as long as the device does not answer, and must not block this thread.

mod async_cancel;
mod completion;
mod files;
mod linked_timeout;
mod overdue;
mod probe;
mod read_state;
mod ring;
mod setup;
mod sqe;
mod submission;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types;
use io_uring::{cqueue, opcode, squeue};

use crate::backend::{
    self, Backend, BackendKind, Completion, MAX_READ_LEN, Op, OpId, Reject, Rejected, Shutdown,
    Stats, Submission, TargetId,
};
use crate::batching::{self, Batching};
use crate::buffer::BufferPool;
use crate::closing::{Closed, Closing};
use crate::deadlines::Deadlines;
use crate::errno::KernelResult;
use crate::inflight::{Flight, InFlight};
use crate::self_test::self_test;
use crate::table::{Key, Table};
use crate::threads::pool::{NoCall, Threads};
use crate::uring::linked_timeout::Outcomes;
use crate::uring::read_state::ReadState;
use crate::uring::ring::Ring;
pub use crate::uring::setup::{RingFeatures, UringConfig};
use crate::uring::sqe::{CompletionKind, ReadFile, ReadMemory, Timespecs};
use crate::{Errno, KernelError, Mono, Waker};

struct Target {
    /// The descriptor, if the ring's file table has no entry for it.
    unregistered: Option<OwnedFd>,
    /// Set when the caller has given up the target. Dropping it reports that the file is closed.
    /// Reads may still be in flight.
    closed: Option<Closed>,
    /// Reads in flight.
    reads: u32,
}

/// If no thread has taken a file to close for this long, all closing threads count as blocked.
const CLOSING_STALL: Duration = Duration::from_millis(50);

/// The io_uring backend. It must stay on the thread that opened it.
pub struct Uring {
    ring: Ring,
    flights: InFlight<ReadState>,
    /// Deadlines of the reads that are not linked to theirs.
    deadlines: Deadlines,
    pool: BufferPool,
    targets: Table<Target>,
    detached: Vec<TargetId>,
    closers: Threads<NoCall>,
    /// Files are waiting for a thread that closes them.
    closing: bool,
    file_slots: u32,
    timespecs: Timespecs,
    linked_timeouts: bool,
    waker: Waker,
    waker_armed: bool,
    woken: bool,
    batching: Batching,
    blocking_threads: u32,
    stats: Stats,
    closed: bool,
}

impl Uring {
    /// Opens a ring on this thread and verifies with real reads that it works.
    ///
    /// # Errors
    /// `io_uring_setup` with the likely cause if the kernel refuses, the missing operation if the
    /// kernel is too old, `eventfd`, or the read that did not work.
    pub fn open(config: UringConfig) -> Result<Uring, KernelError> {
        let mut ring = Ring::open(config.entries)?;
        probe::check_opcodes(&ring)?;
        let waker = Waker::new().map_err(KernelError::of("eventfd"))?;
        let mut file_slots = ring.open_tables(config.files);
        // A detached target's file must be released at once, even if other reads are in flight.
        if ring.features.registered_files
            && !probe::releases_files_promptly(&mut ring).unwrap_or(false)
        {
            ring.close_file_table();
            file_slots = 0;
        }
        let closers =
            Threads::new(*backend::BLOCKING_THREADS.end(), waker.clone()).with_stall(CLOSING_STALL);
        let timespecs = Timespecs::new(ring.features.sq_entries);
        let mut uring = Uring {
            ring,
            flights: InFlight::default(),
            deadlines: Deadlines::default(),
            pool: BufferPool::default(),
            targets: Table::default(),
            detached: Vec::new(),
            closers,
            closing: false,
            file_slots,
            timespecs,
            linked_timeouts: config.linked_timeouts,
            waker,
            waker_armed: false,
            woken: false,
            batching: Batching::default(),
            blocking_threads: 0,
            stats: Stats::default(),
            closed: false,
        };
        self_test(&mut uring, "IORING_OP_READ")?;
        Ok(uring)
    }

    /// The features of io_uring in use.
    pub fn features(&self) -> RingFeatures {
        self.ring.features
    }
}

/// The features of io_uring that would be used here.
///
/// # Errors
/// io_uring can't be used: the call that failed, its errno and the likely cause.
pub fn probe_uring() -> Result<RingFeatures, KernelError> {
    Uring::open(UringConfig::default()).map(|uring| uring.features())
}

impl Backend for Uring {
    fn kind(&self) -> BackendKind {
        BackendKind::IoUring
    }

    fn now(&self) -> Mono {
        Mono::now()
    }

    fn attach(&mut self, file: OwnedFd, _submission: Submission) -> TargetId {
        let raw = file.as_raw_fd();
        let key = self.targets.insert(Target {
            unregistered: Some(file),
            closed: None,
            reads: 0,
        });
        let registered = key.index() < self.file_slots
            && self
                .ring
                .registrar()
                .register_files_update(key.index(), &[raw])
                .is_ok();
        if registered && let Some(target) = self.targets.get_mut(key) {
            target.unregistered = None;
        }
        TargetId(key)
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        let entry = self.targets.get_mut(target.0);
        let Some(entry) = entry.filter(|entry| entry.closed.is_none()) else {
            return Closing::nothing();
        };
        let (closed, closing) = Closing::pair();
        entry.closed = Some(closed);
        self.detached.push(target);
        self.close_detached();
        closing
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.try_submit(op).map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        if let Some(flight) = self.flights.get_mut(id.0) {
            flight.state.cancel();
            // If the queue has no space, the read just continues.
            self.queue_cancel(id);
        }
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        self.submit_and_reap(until, completions)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn expect_blocking(&mut self, targets: usize) {
        let threads = backend::BLOCKING_THREADS;
        let wanted = targets.clamp(*threads.start(), *threads.end());
        let wanted = wanted.next_power_of_two() as u32;
        if wanted > self.blocking_threads {
            self.ring.allow_workers(wanted);
            self.blocking_threads = wanted;
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids: Vec<OpId> = self.flights.iter().map(|(key, _)| OpId(key)).collect();
        let targets = backend::ids_of(&self.targets).into_iter();
        let closings: Vec<Closing> = targets.map(|id| self.detach(id)).collect();
        backend::drain(self, &ids, deadline);
        backend::wait_closed(&closings, deadline, || {
            let _ = self.wait(Some(Mono::ZERO), &mut Vec::new());
        });
        self.closed = true;
        Shutdown::from_in_flight(self.stats.in_flight)
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.targets);
        if !targets.is_empty() {
            self.closers
                .run_in_background(Box::new(move || drop(targets)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{Outcome, Stage};

    /// The kernel does not know this read. An ASYNC_CANCEL returns `ENOENT` for it, as it does for
    /// a read at a silent device.
    #[test]
    fn a_read_whose_link_broke_expires_at_its_deadline() {
        let mut uring = match Uring::open(UringConfig::default()) {
            Ok(uring) => uring,
            Err(error) => {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED a_read_whose_link_broke_expires_at_its_deadline: {error}"
                );
                return;
            }
        };
        let file = std::fs::File::open("/dev/null").expect("open");
        let deadline = Mono::now() + Duration::from_millis(20);
        let op = Op {
            target: uring.attach(file.into(), Submission::Prompt),
            offset: 0,
            len: 512,
            deadline,
            nowait: true,
            token: 7,
        };
        let id = OpId(uring.flights.insert(Flight {
            op,
            buffer: None,
            state: ReadState::new(true),
        }));
        let broken_link = uring.other_completed(id, CompletionKind::Timeout, Err(Errno::EINVAL));
        assert_eq!(
            broken_link,
            Some((7, [None, None])),
            "its deadline has not passed"
        );
        let mut reports = Vec::new();
        let limit = deadline + Duration::from_secs(60);
        uring
            .wait(Some(limit), &mut reports)
            .expect("the ring works");
        let expired = Outcome::Expired(Stage::Device);
        assert_eq!((reports.len(), reports[0].outcome), (1, expired));
        assert!(reports[0].at >= deadline && uring.stats.stuck == 1);
        let late = [Some(Outcome::Late(Ok(512))), None];
        assert_eq!(uring.read_completed(id, Ok(512)), Some((7, late)));
        assert!(uring.flights.get(id.0).is_none() && uring.stats.stuck == 0);
    }

    #[test]
    fn probe_uring_returns_features_or_a_reason() {
        match probe_uring() {
            Ok(features) => assert!(features.sq_entries >= 2),
            Err(error) => assert!(!error.hint.is_empty(), "{error}"),
        }
    }
}
