//! The io_uring backend: one ring, one thread, each read linked to its deadline.
//!
//! A read and its LINK_TIMEOUT are two entries and make two completions; `link.rs` says what these
//! mean together. A flight leaves the table when both were seen.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{self, TimeoutFlags, Timespec};
use io_uring::{cqueue, opcode, squeue};

use crate::backend::{
    Backend, BackendKind, Completion, MAX_READ_LEN, Op, OpId, Reject, Rejected, Shutdown, Stats,
    TargetId,
};
use crate::buffer::BufferPool;
use crate::gather::{self, Gather};
use crate::inflight::{Flight, InFlight};
use crate::link::{Link, Told};
use crate::ring::{Ring, RingFeatures};
use crate::table::{Key, Table};
use crate::{Errno, KernelError, Mono, Waker, probe};

/// preadv2(2): fail with EAGAIN instead of waiting.
const RWF_NOWAIT: i32 = libc::RWF_NOWAIT;

/// What a completion is about: the upper two bits of its user data.
const KIND_SHIFT: u32 = 62;
const KIND_READ: u64 = 0;
const KIND_TIMER: u64 = 1;
const KIND_CANCEL: u64 = 2;
const KIND_WAKE: u64 = 3;

/// Kernel threads for reads that may block, at least and at most. Below the least the kernel's own
/// default is kept.
const BLOCKING_THREADS: std::ops::RangeInclusive<u32> = 8..=512;

/// How to open a [`Uring`].
#[derive(Clone, Copy, Debug)]
pub struct UringConfig {
    /// Entries of the submission queue; a read takes two. Rounded up to a power of two, and less
    /// where locked memory is short.
    pub entries: u32,
    /// How many files the ring can keep without their descriptors; bounded by RLIMIT_NOFILE. More
    /// files than these keep their descriptors.
    pub files: u32,
}

impl Default for UringConfig {
    fn default() -> UringConfig {
        UringConfig {
            entries: 1024,
            files: 16_384,
        }
    }
}

struct Target {
    /// The descriptor, where the ring's file table has no place for it.
    unregistered: Option<OwnedFd>,
    /// Given up by the caller, but a queued read may still name its place.
    detached: bool,
}

/// The io_uring backend. Must stay on the thread that opened it.
pub struct Uring {
    ring: Ring,
    flights: InFlight<Link>,
    pool: BufferPool,
    targets: Table<Target>,
    detached: Vec<TargetId>,
    file_slots: u32,
    /// One per entry of the submission queue: the kernel reads them when it takes the entry, and
    /// all entries queued are taken before this goes round.
    timespecs: Box<[Timespec]>,
    next_timespec: usize,
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
        let timespecs = vec![Timespec::new(); ring.features.sq_entries as usize];
        let mut uring = Uring {
            ring,
            flights: InFlight::default(),
            pool: BufferPool::default(),
            targets: Table::default(),
            detached: Vec::new(),
            file_slots,
            timespecs: timespecs.into_boxed_slice(),
            next_timespec: 0,
            waker,
            waker_armed: false,
            woken: false,
            gather: Gather::default(),
            blocking_threads: 0,
            stats: Stats::default(),
            closed: false,
        };
        probe::self_test(&mut uring)?;
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

    fn read_entry(&self, flight: &Flight<Link>) -> Option<squeue::Entry> {
        let op = &flight.op;
        let buffer = flight.buffer.as_ref()?;
        let address = self.pool.address(buffer).as_ptr();
        let flags = if op.nowait { RWF_NOWAIT } else { 0 };
        let target = self.targets.get(op.target.0)?;
        let fixed_buffer = self.pool.registered_chunk(buffer);
        macro_rules! read {
            ($file:expr) => {
                match fixed_buffer {
                    Some(index) => opcode::ReadFixed::new($file, address, op.len, index)
                        .offset(op.offset)
                        .rw_flags(flags)
                        .build(),
                    None => opcode::Read::new($file, address, op.len)
                        .offset(op.offset)
                        .rw_flags(flags)
                        .build(),
                }
            };
        }
        Some(match &target.unregistered {
            None => read!(types::Fixed(op.target.0.index())),
            Some(fd) => read!(types::Fd(fd.as_raw_fd())),
        })
    }

    fn deadline_entry(&mut self, deadline: Mono) -> squeue::Entry {
        let nanos = deadline.as_nanos();
        let slot = &mut self.timespecs[self.next_timespec];
        *slot = Timespec::new()
            .sec(nanos / 1_000_000_000)
            .nsec((nanos % 1_000_000_000) as u32);
        let entry = opcode::LinkTimeout::new(&raw const *slot)
            .flags(TimeoutFlags::ABS)
            .build();
        self.next_timespec = (self.next_timespec + 1) % self.timespecs.len();
        entry
    }

    fn arm_waker(&mut self) {
        if self.waker_armed || !self.make_room(1) {
            return;
        }
        let fd = types::Fd(self.waker.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .build()
            .user_data(KIND_WAKE << KIND_SHIFT);
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

    fn take(&mut self, cqe: &cqueue::Entry, at: Mono, completions: &mut Vec<Completion>) {
        let id = OpId(Key::from_bits(cqe.user_data()));
        let result = Errno::check(cqe.result());
        let told = match cqe.user_data() >> KIND_SHIFT {
            KIND_READ => self.read_ended(id, result),
            KIND_TIMER => self.timer_ended(id, result),
            KIND_CANCEL => return,
            _ => {
                self.waker.clear();
                self.waker_armed = false;
                self.woken = true;
                return;
            }
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
    fn read_ended(&mut self, id: OpId, result: Result<u32, Errno>) -> Option<(u64, Told)> {
        let flight = self.flights.get_mut(id.0)?;
        self.stats.stuck -= usize::from(flight.notes.is_stuck());
        let told = (flight.op.token, flight.notes.read(result));
        if let Some(buffer) = flight.buffer.take() {
            self.pool.put(buffer);
            self.stats.in_flight -= 1;
            self.gather.ended();
        }
        if flight.notes.is_over() {
            self.flights.remove(id.0);
        }
        Some(told)
    }

    /// The timeout's completion: the read ended in time, or the deadline passed.
    fn timer_ended(&mut self, id: OpId, result: Result<u32, Errno>) -> Option<(u64, Told)> {
        let flight = self.flights.get_mut(id.0)?;
        let told = (flight.op.token, flight.notes.timer(result));
        self.stats.stuck += usize::from(flight.notes.is_stuck());
        if flight.notes.is_over() {
            self.flights.remove(id.0);
        }
        Some(told)
    }

    /// Frees the places of detached targets once no queued read names them: the kernel looks a
    /// file up when it takes the entry, so a place must not change hands before.
    fn forget_detached(&mut self) {
        if self.detached.is_empty() || !self.ring.flush() {
            return;
        }
        for TargetId(key) in self.detached.drain(..) {
            let registered = self
                .targets
                .remove(key)
                .is_some_and(|target| target.unregistered.is_none());
            if registered {
                // Can't fail for a place of the table; reads in flight keep the file.
                let _ = self
                    .ring
                    .registrar()
                    .register_files_update(key.index(), &[-1]);
            }
        }
    }

    /// Submits what is queued and waits until something completes or `until`.
    fn enter(&mut self, until: Option<Mono>) -> Result<(), KernelError> {
        self.stats.syscalls += 1;
        let want = self.gather.want();
        let gathering = want > 1 && !self.ring.features.min_wait;
        let until = if gathering {
            // Without a limit of its own for gathering, that becomes the limit of this wait.
            let limit = Mono::now() + Duration::from_micros(gather::LIMIT_US.into());
            Some(until.map_or(limit, |until| until.min(limit)))
        } else {
            until
        };
        match self.ring.submit_and_wait(want, gather::LIMIT_US, until) {
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

    fn queue_cancel(&mut self, user_data: u64) {
        if !self.make_room(1) {
            return;
        }
        let entry = opcode::AsyncCancel::new(user_data)
            .build()
            .user_data(KIND_CANCEL << KIND_SHIFT);
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&[entry]) };
    }

    fn try_submit(&mut self, op: Op) -> Result<OpId, Reject> {
        if self.closed {
            return Err(Reject::Broken);
        }
        let known = self.targets.get(op.target.0);
        if !(1..=MAX_READ_LEN).contains(&op.len) || known.is_none_or(|target| target.detached) {
            return Err(Reject::Invalid);
        }
        if !self.make_room(2) {
            return Err(Reject::Full);
        }
        let ring = &self.ring;
        let buffer = self
            .pool
            .take(op.len, |memory| ring.register_chunk(memory))
            .ok_or(Reject::NoMemory)?;
        let flight = Flight {
            op,
            buffer: Some(buffer),
            notes: Link::default(),
        };
        let read = self.read_entry(&flight).ok_or(Reject::Invalid)?;
        let deadline = self.deadline_entry(op.deadline);
        let key = self.flights.insert(flight);
        let link = [
            read.flags(squeue::Flags::IO_LINK)
                .user_data(KIND_READ << KIND_SHIFT | key.to_bits()),
            deadline.user_data(KIND_TIMER << KIND_SHIFT | key.to_bits()),
        ];
        // SAFETY: the read writes into the flight's buffer, which the table of flights owns until
        // the read's own completion, and the pool leaks if that never comes. The deadline lies in
        // `timespecs`, which the kernel reads at submission, before that place is used again.
        let pushed = unsafe { self.ring.push(&link) };
        debug_assert!(pushed, "there was room");
        self.stats.in_flight += 1;
        self.gather.submitted();
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

    fn attach(&mut self, file: OwnedFd) -> Result<TargetId, KernelError> {
        let raw = file.as_raw_fd();
        let key = self.targets.insert(Target {
            unregistered: Some(file),
            detached: false,
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
        Ok(TargetId(key))
    }

    fn detach(&mut self, target: TargetId) {
        if let Some(entry) = self.targets.get_mut(target.0) {
            entry.detached = true;
            self.detached.push(target);
            self.forget_detached();
        }
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.try_submit(op).map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        if let Some(flight) = self.flights.get_mut(id.0) {
            flight.notes.cancel();
            self.queue_cancel(KIND_READ << KIND_SHIFT | id.0.to_bits());
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
            self.enter(until)?;
            let reaped = self.reap(completions);
            self.gather.came(reaped);
            self.forget_detached();
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
        let wanted = u32::try_from(targets)
            .unwrap_or(u32::MAX)
            .clamp(*BLOCKING_THREADS.start(), *BLOCKING_THREADS.end())
            .next_power_of_two();
        if wanted > self.blocking_threads {
            // Linux 5.15; before, the kernel's own bound (4 x CPUs) holds.
            let _ = self
                .ring
                .registrar()
                .register_iowq_max_workers(&mut [wanted, 0]);
            self.blocking_threads = wanted;
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids: Vec<Key> = self.flights.iter().map(|(key, _)| key).collect();
        for key in ids {
            self.cancel(OpId(key));
        }
        let mut completions = Vec::new();
        while self.stats.in_flight > 0 && Mono::now() < deadline {
            if self.wait(Some(deadline), &mut completions).is_err() {
                break;
            }
            completions.clear();
        }
        self.closed = true;
        match self.stats.in_flight {
            0 => Shutdown::Drained,
            held => Shutdown::Quarantined(held),
        }
    }
}
