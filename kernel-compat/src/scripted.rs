//! A backend without a kernel: a script determines what every read does, on a virtual clock.
//!
//! Simulations drive the engine with it. It uses the same tables and buffers as the real backends,
//! and checks the guarantees that these give to the kernel: see [`Audit`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use crate::backend::{
    self, Backend, BackendKind, Completion, MAX_READ_LEN, Op, OpId, Outcome, Reject, Rejected,
    Shutdown, Stage, Stats, Submission, TargetId,
};
use crate::buffer::BufferPool;
use crate::inflight::{Flight, InFlight};
use crate::table::Table;
use crate::{Closing, Errno, KernelError, Mono, Waker};

/// What a scripted read does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The backend refuses it.
    Refuse(Reject),
    /// It ends with this result after this time. If that is after its deadline, it ends late, and
    /// it was at this stage when the deadline passed.
    After(Duration, Result<u32, Errno>, Stage),
    /// It never ends. It is at this stage at its deadline.
    Never(Stage),
    /// No kernel thread starts it before its deadline.
    NotStarted,
}

/// Counts of operations, and violated guarantees.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Operations accepted.
    pub accepted: u64,
    /// Operations refused.
    pub refused: u64,
    /// Operations that ended, without late ends.
    pub ended: u64,
    /// Late ends.
    pub late: u64,
    /// Descriptions of violated guarantees. Anything here is a bug.
    pub violations: Vec<String>,
}

/// One future event of a flight.
#[derive(Clone, Copy, Debug)]
enum FlightEvent {
    End(Outcome),
    Expire(Stage),
}

/// The scripted backend. `F` is the script: it sees the operation and the time.
pub struct Scripted<F> {
    script: F,
    now: Mono,
    /// Ordered by time. Events of the same time are ordered by their tie-breakers.
    events: BTreeMap<(Mono, u64, u64), (OpId, FlightEvent)>,
    flights: InFlight<()>,
    pool: BufferPool,
    targets: Table<()>,
    held_memory: HashSet<usize>,
    reads_of: HashMap<TargetId, usize>,
    ties: u64,
    serial: u64,
    stats: Stats,
    audit: Rc<RefCell<Audit>>,
    jump: Rc<Cell<Duration>>,
    waker: Waker,
    closed: bool,
}

impl<F: FnMut(&Op, Mono) -> Answer> Scripted<F> {
    /// A backend at time zero. `ties` seeds the order of events at the same time.
    ///
    /// # Errors
    /// `eventfd`, when no descriptors are left.
    pub fn new(ties: u64, script: F) -> Result<Scripted<F>, KernelError> {
        Ok(Scripted {
            script,
            now: Mono::ZERO,
            events: BTreeMap::new(),
            flights: InFlight::default(),
            pool: BufferPool::default(),
            targets: Table::default(),
            held_memory: HashSet::new(),
            reads_of: HashMap::new(),
            ties,
            serial: 0,
            stats: Stats::default(),
            audit: Rc::default(),
            jump: Rc::default(),
            waker: Waker::new().map_err(KernelError::of("eventfd"))?,
            closed: false,
        })
    }

    /// Attaches a target without a file.
    pub fn attach_nothing(&mut self) -> TargetId {
        TargetId(self.targets.insert(()))
    }

    /// The audit. It can be read while and after the backend is used.
    pub fn audit(&self) -> Rc<RefCell<Audit>> {
        Rc::clone(&self.audit)
    }

    /// A duration that the next `wait` adds to the clock while the devices stand still, as if the
    /// machine were suspended for this time and its clock continued.
    pub fn jump(&self) -> Rc<Cell<Duration>> {
        Rc::clone(&self.jump)
    }

    /// Delays everything that devices do by `span`. Deadlines are not delayed.
    fn delay_devices(&mut self, span: Duration) {
        for ((at, _, _), (id, event)) in std::mem::take(&mut self.events) {
            let deadline = self.flights.get(id.0).map(|flight| flight.op.deadline);
            let read = match event {
                FlightEvent::End(Outcome::Read(bytes)) => Ok(bytes),
                FlightEvent::End(Outcome::Failed(errno)) => Err(errno),
                FlightEvent::End(Outcome::Late(_)) => {
                    self.schedule(at + span, id, event);
                    continue;
                }
                _ => {
                    self.schedule(at, id, event);
                    continue;
                }
            };
            match deadline {
                Some(deadline) if deadline < at + span => {
                    self.schedule(deadline, id, FlightEvent::Expire(Stage::Device));
                    self.schedule(at + span, id, FlightEvent::End(Outcome::Late(read)));
                }
                _ => self.schedule(at + span, id, event),
            }
        }
    }

    /// Ends the reads in flight on a target now with this result. Reads past their deadline end
    /// late.
    pub fn release(&mut self, target: TargetId, result: Result<u32, Errno>) {
        let held: Vec<OpId> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.op.target == target)
            .map(|(key, _)| OpId(key))
            .collect();
        for id in held {
            let mut expired = true;
            self.events.retain(|_, (of, event)| {
                expired &= *of != id || matches!(event, FlightEvent::End(Outcome::Late(_)));
                *of != id
            });
            let outcome = match (expired, result) {
                (true, result) => Outcome::Late(result),
                (false, Ok(bytes)) => Outcome::Read(bytes),
                (false, Err(errno)) => Outcome::Failed(errno),
            };
            self.schedule(self.now, id, FlightEvent::End(outcome));
        }
    }

    fn schedule(&mut self, at: Mono, id: OpId, event: FlightEvent) {
        // splitmix64: a pseudo-random tie-breaker that is reproducible for a seed.
        self.ties = self.ties.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut tie = self.ties;
        tie = (tie ^ (tie >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.serial += 1;
        self.events.insert((at, tie, self.serial), (id, event));
    }

    fn schedule_answer(&mut self, id: OpId, deadline: Mono, answer: Answer) {
        let deadline = deadline.max(self.now);
        match answer {
            Answer::After(span, result, _) if self.now + span <= deadline => {
                let outcome = result.map_or_else(Outcome::Failed, Outcome::Read);
                self.schedule(self.now + span, id, FlightEvent::End(outcome));
            }
            Answer::After(span, result, stage) => {
                self.schedule(deadline, id, FlightEvent::Expire(stage));
                self.schedule(self.now + span, id, FlightEvent::End(Outcome::Late(result)));
            }
            Answer::Never(stage) => self.schedule(deadline, id, FlightEvent::Expire(stage)),
            Answer::NotStarted => {
                self.schedule(deadline, id, FlightEvent::End(Outcome::NotStarted));
            }
            Answer::Refuse(_) => {}
        }
    }

    fn take_memory(&mut self, op: &Op) -> Option<crate::buffer::Buffer> {
        let buffer = self.pool.take(op.len, |_| false)?;
        let address = self.pool.address(&buffer).as_ptr().addr();
        if !self.held_memory.insert(address) {
            self.audit.borrow_mut().violations.push(format!(
                "memory at {address:#x} was handed out while in flight"
            ));
        }
        let reads = self.reads_of.entry(op.target).or_default();
        *reads += 1;
        if *reads > 1 {
            self.audit
                .borrow_mut()
                .violations
                .push(format!("{reads} reads in flight on {:?}", op.target));
        }
        Some(buffer)
    }

    fn release_memory(&mut self, flight: Flight<()>) {
        if let Some(buffer) = flight.buffer {
            self.held_memory
                .remove(&self.pool.address(&buffer).as_ptr().addr());
            self.pool.put(buffer);
        }
        if let Some(reads) = self.reads_of.get_mut(&flight.op.target) {
            *reads -= 1;
        }
        self.stats.in_flight -= 1;
    }

    fn apply(&mut self, id: OpId, event: FlightEvent) -> Option<Completion> {
        let token = self.flights.get(id.0)?.op.token;
        let outcome = match event {
            FlightEvent::Expire(stage) => {
                self.stats.stuck += 1;
                self.audit.borrow_mut().ended += 1;
                Outcome::Expired(stage)
            }
            FlightEvent::End(outcome) => {
                if matches!(outcome, Outcome::Late(_)) {
                    self.stats.stuck -= 1;
                    self.audit.borrow_mut().late += 1;
                } else {
                    self.audit.borrow_mut().ended += 1;
                }
                let flight = self.flights.remove(id.0)?;
                self.release_memory(flight);
                outcome
            }
        };
        Some(Completion {
            id,
            token,
            at: self.now,
            outcome,
        })
    }
}

impl<F: FnMut(&Op, Mono) -> Answer> Backend for Scripted<F> {
    fn kind(&self) -> BackendKind {
        BackendKind::Scripted
    }

    fn now(&self) -> Mono {
        self.now
    }

    fn attach(&mut self, _file: OwnedFd, _submission: Submission) -> TargetId {
        self.attach_nothing()
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        self.targets.remove(target.0);
        Closing::nothing()
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        let known = self.targets.get(op.target.0).is_some();
        let refusal = match (self.closed, known, (1..=MAX_READ_LEN).contains(&op.len)) {
            (true, _, _) => Some(Reject::Broken),
            (_, true, true) => None,
            _ => Some(Reject::Invalid),
        };
        let answer = refusal.map_or_else(|| (self.script)(&op, self.now), Answer::Refuse);
        if let Answer::Refuse(why) = answer {
            self.audit.borrow_mut().refused += 1;
            return Err(Rejected { op, why });
        }
        let Some(buffer) = self.take_memory(&op) else {
            let why = Reject::NoMemory;
            return Err(Rejected { op, why });
        };
        let flight = Flight {
            op,
            buffer: Some(buffer),
            state: (),
        };
        let id = OpId(self.flights.insert(flight));
        self.audit.borrow_mut().accepted += 1;
        self.stats.in_flight += 1;
        self.schedule_answer(id, op.deadline, answer);
        Ok(id)
    }

    fn cancel(&mut self, id: OpId) {
        // As in the kernel, only reads that were not started can be cancelled.
        let scheduled = self.events.len();
        self.events.retain(|_, (of, event)| {
            *of != id || !matches!(event, FlightEvent::End(Outcome::NotStarted))
        });
        if self.events.len() < scheduled {
            self.schedule(self.now, id, FlightEvent::End(Outcome::Cancelled));
        }
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        self.stats.syscalls += 1;
        // A wake-up makes this call return now instead of at the next event.
        let woken = self.waker.clear().then_some(self.now);
        let until = woken.or(until);
        let first = self.events.keys().next().map(|key| key.0);
        let limit = match (first, until) {
            (Some(first), Some(until)) => first.min(until),
            (Some(moment), None) | (None, Some(moment)) => moment,
            (None, None) => return Ok(()),
        };
        self.now = self.now.max(limit);
        let jump = self.jump.take();
        if !jump.is_zero() {
            self.delay_devices(jump);
            self.now = self.now + jump;
        }
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (id, event) = entry.remove();
            completions.extend(self.apply(id, event));
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn expect_blocking(&mut self, _targets: usize) {}

    fn stats(&self) -> Stats {
        self.stats
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids: Vec<OpId> = self.flights.iter().map(|(key, _)| OpId(key)).collect();
        backend::drain(self, &ids, deadline);
        self.closed = true;
        Shutdown::from_in_flight(self.stats.in_flight)
    }
}
