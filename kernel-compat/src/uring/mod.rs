//! The io_uring backend: one ring, one thread.
//!
//! A read with nowait is linked to its deadline, unless the user wants it otherwise: it and its
//! LINK_TIMEOUT make two completions; `linked_timeout.rs` says what these mean together. The deadlines of other reads
//! are watched here; `asked.rs` says why and how. A flight leaves the table at the kernel's last word about it.
//!
//! A target that is given up keeps its file until its reads have ended. A file of the ring's table gets
//! a descriptor then (`FIXED_FD_INSTALL`), so that a thread can close it: the last close may take as long as
//! the device likes, and would take that of this thread otherwise.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types;
use io_uring::{cqueue, opcode, squeue};

use crate::backend::{
    self, Backend, BackendKind, Completion, MAX_READ_LEN, Op, OpId, Reject, Rejected, Shutdown,
    Stats, Submission, TargetId,
};
use crate::batching::{self, Gather};
use crate::buffer::BufferPool;
use crate::closing::{Closed, Closing, NoCall};
use crate::deadlines::Deadlines;
use crate::errno::KernelResult;
use crate::inflight::{Flight, InFlight};
use crate::table::{Key, Table};
use crate::threads::pool::Threads;
use crate::uring::linked_timeout::Told;
use crate::uring::read_state::Life;
use crate::uring::ring::Ring;
pub use crate::uring::ring::{RingFeatures, UringConfig};
use crate::uring::sqe::{File, Kind, ReadMemory, Timespecs};
use crate::{Errno, KernelError, Mono, Waker, probe};

struct Target {
    /// The descriptor, where the ring's file table has no place for it.
    unregistered: Option<OwnedFd>,
    /// Given up by the caller, but reads of it may be in flight. Who is to hear that it is closed.
    closed: Option<Closed>,
    /// Reads in flight.
    reads: u32,
}

/// Threads that close files are taken to be blocked by their devices after this.
const CLOSING_STALL: Duration = Duration::from_millis(50);

/// The io_uring backend. Must stay on the thread that opened it.
pub struct Uring {
    ring: Ring,
    flights: InFlight<Life>,
    /// Of the reads that are not linked to theirs.
    deadlines: Deadlines,
    pool: BufferPool,
    targets: Table<Target>,
    detached: Vec<TargetId>,
    closers: Threads<NoCall>,
    /// Files wait for a thread that closes them.
    closing: bool,
    file_slots: u32,
    timespecs: Timespecs,
    links: bool,
    waker: Waker,
    waker_armed: bool,
    woken: bool,
    gather: Gather,
    blocking_threads: u32,
    stats: Stats,
    closed: bool,
}

impl Uring {
    /// Opens a ring on this thread and proves with one real read that it works.
    ///
    /// # Errors
    /// `io_uring_setup` with the likely cause when the kernel refuses, the missing operation when
    /// it is too old, `eventfd`, or the read that did not work.
    pub fn open(config: UringConfig) -> Result<Uring, KernelError> {
        let mut ring = Ring::open(config.entries)?;
        probe::check_opcodes(&ring)?;
        let waker = Waker::new().map_err(KernelError::of("eventfd"))?;
        let file_slots = ring.open_tables(config.files);
        let closers =
            Threads::new(*backend::BLOCKING_THREADS.end(), waker.clone()).patient(CLOSING_STALL);
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
            links: config.linked_timeouts,
            waker,
            waker_armed: false,
            woken: false,
            gather: Gather::default(),
            blocking_threads: 0,
            stats: Stats::default(),
            closed: false,
        };
        probe::self_test(&mut uring, "IORING_OP_READ")?;
        Ok(uring)
    }

    /// Which of io_uring's features are in use.
    pub fn features(&self) -> RingFeatures {
        self.ring.features
    }

    /// Makes room for `entries` in the submission queue.
    fn make_room(&mut self, entries: usize) -> bool {
        if self.ring.room() < entries {
            self.stats.syscalls += 1;
            // What the kernel can't take now stays queued; `wait` meets the cause again.
            let _ = self.ring.submit();
        }
        self.ring.room() >= entries
    }

    /// The read of a flight, without its user data.
    fn read_entry(&self, flight: &Flight<Life>) -> Option<squeue::Entry> {
        let buffer = flight.buffer.as_ref()?;
        let memory = ReadMemory {
            address: self.pool.address(buffer).as_ptr(),
            registered: self.pool.registered_chunk(buffer),
        };
        let target = self.targets.get(flight.op.target.0)?;
        let file = match &target.unregistered {
            None => File::Place(flight.op.target.0.index()),
            Some(fd) => File::Descriptor(fd.as_raw_fd()),
        };
        Some(sqe::read(file, &flight.op, memory))
    }

    fn arm_waker(&mut self) {
        if self.waker_armed || !self.make_room(1) {
            return;
        }
        let fd = types::Fd(self.waker.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .build()
            .user_data(Kind::Wake.bits());
        // SAFETY: the entry names no memory; the eventfd is owned by the waker, which lives as
        // long as the ring.
        self.waker_armed = unsafe { self.ring.push(&[entry]) };
    }

    /// Works off the completions that are there and counts them.
    fn reap(&mut self, completions: &mut Vec<Completion>) -> u32 {
        let Some(mut cqe) = self.ring.pop() else {
            return 0;
        };
        let at = Mono::now();
        let mut reaped = 0;
        loop {
            reaped += 1;
            self.take(&cqe, at, completions);
            match self.ring.pop() {
                Some(next) => cqe = next,
                None => return reaped,
            }
        }
    }

    /// Works off all completions that the kernel has: when it is not to wait for any, it posts some at a time.
    fn reap_all(&mut self, completions: &mut Vec<Completion>) -> Result<(), KernelError> {
        loop {
            self.enter(None, false)?;
            if self.reap(completions) == 0 {
                return Ok(());
            }
        }
    }

    fn take(&mut self, cqe: &cqueue::Entry, at: Mono, completions: &mut Vec<Completion>) {
        let (kind, key) = Kind::split(cqe.user_data());
        if matches!(kind, Kind::Read | Kind::Timer) {
            self.gather.ended();
        }
        let id = OpId(key);
        let result = Errno::check(cqe.result());
        let told = match kind {
            Kind::Read => self.read_ended(id, result),
            Kind::Wake => {
                self.waker.clear();
                self.waker_armed = false;
                self.woken = true;
                return;
            }
            Kind::Install => return self.close(key, result),
            _ => match self.other_ended(id, kind, result) {
                // A cancellation may be answered after the read has ended.
                None if kind == Kind::Cancel => return,
                told => told,
            },
        };
        let Some((token, told)) = told else {
            self.stats.strays += 1;
            return;
        };
        completions.extend(told.into_iter().flatten().map(|outcome| Completion {
            id,
            token,
            at,
            outcome,
        }));
    }

    /// The read's own completion: the kernel gives the buffer back.
    fn read_ended(&mut self, id: OpId, result: KernelResult) -> Option<(u64, Told)> {
        let flight = self.flights.get_mut(id.0)?;
        let was_stuck = usize::from(flight.notes.is_stuck());
        assert!(
            self.stats.stuck >= was_stuck,
            "a stuck read that was not counted"
        );
        self.stats.stuck -= was_stuck;
        let told = (flight.op.token, flight.notes.read(result));
        if let Some(buffer) = flight.buffer.take() {
            self.pool.put(buffer);
            assert!(self.stats.in_flight > 0, "a read that was not counted");
            self.stats.in_flight -= 1;
            if let Some(target) = self.targets.get_mut(flight.op.target.0) {
                assert!(target.reads > 0, "a read that was not counted");
                target.reads -= 1;
            }
        }
        if flight.notes.is_over() {
            debug_assert!(flight.buffer.is_none(), "a buffer leaves with its read");
            self.flights.remove(id.0);
        }
        debug_assert!(self.stats.in_flight <= self.flights.len());
        Some(told)
    }

    /// The completion of the read's timeout or of a cancellation.
    fn other_ended(&mut self, id: OpId, kind: Kind, result: KernelResult) -> Option<(u64, Told)> {
        let flight = self.flights.get_mut(id.0)?;
        let (was_stuck, deadline) = (flight.notes.is_stuck(), flight.op.deadline);
        let told = (flight.op.token, flight.notes.other(kind, result));
        let is_unlinked = flight.notes.is_unlinked();
        self.stats.stuck += usize::from(flight.notes.is_stuck() && !was_stuck);
        if flight.notes.is_over() {
            debug_assert!(flight.buffer.is_none(), "a buffer leaves with its read");
            self.flights.remove(id.0);
        }
        if is_unlinked && kind == Kind::Timer {
            self.watch(deadline, id.0);
        }
        Some(told)
    }

    /// Submits what is queued and, if `patient`, waits until something completes or `until`.
    fn enter(&mut self, until: Option<Mono>, patient: bool) -> Result<(), KernelError> {
        self.stats.syscalls += 1;
        let want = if patient {
            self.gather.want()
        } else {
            self.gather.sent();
            0
        };
        let gathering = want > 1 && !self.ring.features.min_wait;
        let until = if gathering {
            // Without a limit of its own for gathering, that becomes the limit of this wait.
            let limit = Mono::now() + Duration::from_micros(batching::LIMIT_US.into());
            Some(until.map_or(limit, |until| until.min(limit)))
        } else {
            until
        };
        match self.ring.submit_and_wait(want, batching::LIMIT_US, until) {
            Ok(()) => Ok(()),
            // The kernel is short of memory or of room for completions. What is queued stays
            // queued; reaping makes room, and a moment's pause lets the kernel find memory.
            Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM) => {
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            }
            Err(errno) => {
                self.closed = true;
                Err(KernelError::new("io_uring_enter", errno))
            }
        }
    }

    fn queue_cancel(&mut self, id: OpId) -> bool {
        let entry = opcode::AsyncCancel::new(Kind::Read.of(id.0))
            .build()
            .user_data(Kind::Cancel.of(id.0));
        // SAFETY: the entry names no memory.
        self.make_room(1) && unsafe { self.ring.push(&[entry]) }
    }

    fn try_submit(&mut self, op: Op) -> Result<OpId, Reject> {
        if self.closed {
            return Err(Reject::Broken);
        }
        let known = self.targets.get(op.target.0);
        if !(1..=MAX_READ_LEN).contains(&op.len)
            || known.is_none_or(|target| target.closed.is_some())
        {
            return Err(Reject::Invalid);
        }
        if !self.make_room(2) {
            return Err(Reject::Full);
        }
        let linked = op.nowait && self.links;
        let ring = &self.ring;
        let buffer = self
            .pool
            .take(op.len, |memory| ring.register_chunk(memory))
            .ok_or(Reject::NoMemory)?;
        let flight = Flight {
            op,
            buffer: Some(buffer),
            notes: Life::new(linked),
        };
        let read = self.read_entry(&flight).ok_or(Reject::Invalid)?;
        let key = self.flights.insert(flight);
        let read = read.user_data(Kind::Read.of(key));
        let pushed = if linked {
            let deadline = self.timespecs.entry(op.deadline);
            let link = [
                read.flags(squeue::Flags::IO_LINK),
                deadline.user_data(Kind::Timer.of(key)),
            ];
            // SAFETY: the read writes into the flight's buffer, which the table of flights owns
            // until the read's own completion, and the pool leaks if that never comes. The deadline
            // lies in `timespecs`, which the kernel reads at submission, before that place is used
            // again.
            unsafe { self.ring.push(&link) }
        } else {
            let read = self.watch_deadline(&op, key, read);
            // SAFETY: as above.
            unsafe { self.ring.push(&[read]) }
        };
        debug_assert!(pushed, "there was room");
        self.stats.in_flight += 1;
        if let Some(target) = self.targets.get_mut(op.target.0) {
            target.reads += 1;
        }
        // A linked read makes two completions, its own and its timeout's.
        self.gather.submitted(1 + u32::from(linked));
        Ok(OpId(key))
    }
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
        let (closed, closing) = Closing::new();
        entry.closed = Some(closed);
        self.detached.push(target);
        self.forget_detached();
        closing
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.try_submit(op).map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        if let Some(flight) = self.flights.get_mut(id.0) {
            flight.notes.cancel();
            // Without room the read just goes on.
            self.queue_cancel(id);
        }
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let before = completions.len();
        self.arm_waker();
        loop {
            let next = self.deadlines.next(|key| self.flights.get(key).is_some());
            let look = self.look_after_closers();
            let limit = until.into_iter().chain(next).chain(look).min();
            let patient = limit.is_none_or(|limit| limit > Mono::now());
            self.enter(limit, patient)?;
            let reaped = self.reap(completions);
            if patient {
                self.gather.came(reaped);
            }
            self.forget_detached();
            if self.deadlines.is_due(Mono::now()) {
                // What has ended is not asked about, however late we are.
                self.reap_all(completions)?;
                if self.ask_for_overdue(completions) {
                    continue;
                }
            }
            if std::mem::take(&mut self.woken)
                || completions.len() > before
                || until.is_some_and(|until| Mono::now() >= until)
            {
                return Ok(());
            }
        }
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
        Shutdown::holding(self.stats.in_flight)
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.targets);
        if !targets.is_empty() {
            self.closers.chore(Box::new(move || drop(targets)));
        }
    }
}

mod async_cancel;
mod files;
mod linked_timeout;
mod overdue;
mod read_state;
pub(crate) mod ring;
mod sqe;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{Outcome, Stage};

    /// The kernel knows nothing of this read, as if it were at a silent device: an ASYNC_CANCEL
    /// says `ENOENT` of both.
    #[test]
    fn the_deadline_of_a_read_is_watched_once_its_link_broke() {
        let mut uring = match Uring::open(UringConfig::default()) {
            Ok(uring) => uring,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "SKIPPED a broken link: {error}");
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
            notes: Life::new(true),
        }));
        let broken = uring.other_ended(id, Kind::Timer, Err(Errno::EINVAL));
        assert_eq!(broken, Some((7, [None, None])), "its deadline is to come");
        let mut told = Vec::new();
        let limit = deadline + Duration::from_secs(60);
        uring.wait(Some(limit), &mut told).expect("the ring works");
        let expired = Outcome::Expired(Stage::Device);
        assert_eq!((told.len(), told[0].outcome), (1, expired));
        assert!(told[0].at >= deadline && uring.stats.stuck == 1);
        let late = [Some(Outcome::Late(Ok(512))), None];
        assert_eq!(uring.read_ended(id, Ok(512)), Some((7, late)));
        assert!(uring.flights.get(id.0).is_none() && uring.stats.stuck == 0);
    }
}
