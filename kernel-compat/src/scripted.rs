//! A backend without a kernel: a script decides what every read does, on a virtual clock.
//!
//! Simulations drive the engine with it. It uses the same tables and the same memory as the real
//! backends, and watches the promises that these make to the kernel: see [`Audit`].

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
    /// It ends in this after so long: late, if that is after its deadline, and then it was at
    /// this stage when the deadline passed.
    After(Duration, Result<u32, Errno>, Stage),
    /// It never ends; at its deadline it is at this stage.
    Never(Stage),
    /// No kernel thread gets to it before its deadline.
    NotStarted,
}

/// What went through a scripted backend, and which promises to the kernel were broken.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Operations accepted.
    pub accepted: u64,
    /// Operations refused.
    pub refused: u64,
    /// Operations that ended, late ends not counted.
    pub ended: u64,
    /// Late ends.
    pub late: u64,
    /// Broken promises, in words. Empty, or there is a defect.
    pub violations: Vec<String>,
}

/// One thing that will happen to a flight.
#[derive(Clone, Copy, Debug)]
enum Next {
    End(Outcome),
    Expire(Stage),
}

/// The scripted backend. `F` is the script: it sees the operation and the time.
pub struct Scripted<F> {
    script: F,
    now: Mono,
    /// In order of time; among equals in the order that the tie-breaker says.
    agenda: BTreeMap<(Mono, u64, u64), (OpId, Next)>,
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
    /// A backend at time zero. `ties` seeds the order of completions that fall on the same moment.
    ///
    /// # Errors
    /// `eventfd`, when there are no descriptors.
    pub fn new(ties: u64, script: F) -> Result<Scripted<F>, KernelError> {
        Ok(Scripted {
            script,
            now: Mono::ZERO,
            agenda: BTreeMap::new(),
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

    /// A target without a file.
    pub fn attach_nothing(&mut self) -> TargetId {
        TargetId(self.targets.insert(()))
    }

    /// What goes through, to be looked at while and after the backend is used.
    pub fn audit(&self) -> Rc<RefCell<Audit>> {
        Rc::clone(&self.audit)
    }

    /// What is put in here is added to the clock in the next `wait`, while the devices stand still: as
    /// if the machine were suspended for so long, on a clock that goes on.
    pub fn jump(&self) -> Rc<Cell<Duration>> {
        Rc::clone(&self.jump)
    }

    /// Everything that devices are to do happens so much later; deadlines pass all the same.
    fn stand_still(&mut self, span: Duration) {
        for ((at, _, _), (id, next)) in std::mem::take(&mut self.agenda) {
            let deadline = self.flights.get(id.0).map(|flight| flight.op.deadline);
            let read = match next {
                Next::End(Outcome::Read(bytes)) => Ok(bytes),
                Next::End(Outcome::Failed(errno)) => Err(errno),
                Next::End(Outcome::Late(_)) => {
                    self.plan(at + span, id, next);
                    continue;
                }
                _ => {
                    self.plan(at, id, next);
                    continue;
                }
            };
            match deadline {
                Some(deadline) if deadline < at + span => {
                    self.plan(deadline, id, Next::Expire(Stage::Device));
                    self.plan(at + span, id, Next::End(Outcome::Late(read)));
                }
                _ => self.plan(at + span, id, next),
            }
        }
    }

    /// Ends the reads in flight on a target now, in this: late, where their deadline has passed.
    pub fn release(&mut self, target: TargetId, result: Result<u32, Errno>) {
        let held: Vec<OpId> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.op.target == target)
            .map(|(key, _)| OpId(key))
            .collect();
        for id in held {
            let mut expired = true;
            self.agenda.retain(|_, (of, next)| {
                expired &= *of != id || matches!(next, Next::End(Outcome::Late(_)));
                *of != id
            });
            let outcome = match (expired, result) {
                (true, result) => Outcome::Late(result),
                (false, Ok(bytes)) => Outcome::Read(bytes),
                (false, Err(errno)) => Outcome::Failed(errno),
            };
            self.plan(self.now, id, Next::End(outcome));
        }
    }

    fn plan(&mut self, at: Mono, id: OpId, next: Next) {
        // splitmix64: every tie gets its own place, the same for the same seed.
        self.ties = self.ties.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut tie = self.ties;
        tie = (tie ^ (tie >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.serial += 1;
        self.agenda.insert((at, tie, self.serial), (id, next));
    }

    fn plan_answer(&mut self, id: OpId, deadline: Mono, answer: Answer) {
        let deadline = deadline.max(self.now);
        match answer {
            Answer::After(span, result, _) if self.now + span <= deadline => {
                let outcome = result.map_or_else(Outcome::Failed, Outcome::Read);
                self.plan(self.now + span, id, Next::End(outcome));
            }
            Answer::After(span, result, stage) => {
                self.plan(deadline, id, Next::Expire(stage));
                self.plan(self.now + span, id, Next::End(Outcome::Late(result)));
            }
            Answer::Never(stage) => self.plan(deadline, id, Next::Expire(stage)),
            Answer::NotStarted => self.plan(deadline, id, Next::End(Outcome::NotStarted)),
            Answer::Refuse(_) => {}
        }
    }

    fn take_memory(&mut self, op: &Op) -> Option<crate::buffer::Buffer> {
        let buffer = self.pool.take(op.len, |_| false)?;
        let address = self.pool.address(&buffer).as_ptr().addr();
        if !self.held_memory.insert(address) {
            self.audit
                .borrow_mut()
                .violations
                .push(format!("memory at {address:#x} given out while in flight"));
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

    fn give_memory_back(&mut self, flight: Flight<()>) {
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

    fn happen(&mut self, id: OpId, next: Next) -> Option<Completion> {
        let token = self.flights.get(id.0)?.op.token;
        let outcome = match next {
            Next::Expire(stage) => {
                self.stats.stuck += 1;
                self.audit.borrow_mut().ended += 1;
                Outcome::Expired(stage)
            }
            Next::End(outcome) => {
                if matches!(outcome, Outcome::Late(_)) {
                    self.stats.stuck -= 1;
                    self.audit.borrow_mut().late += 1;
                } else {
                    self.audit.borrow_mut().ended += 1;
                }
                let flight = self.flights.remove(id.0)?;
                self.give_memory_back(flight);
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
            notes: (),
        };
        let id = OpId(self.flights.insert(flight));
        self.audit.borrow_mut().accepted += 1;
        self.stats.in_flight += 1;
        self.plan_answer(id, op.deadline, answer);
        Ok(id)
    }

    fn cancel(&mut self, id: OpId) {
        // As in the kernel, only what was not started can be cancelled.
        let planned = self.agenda.len();
        self.agenda
            .retain(|_, (of, next)| *of != id || !matches!(next, Next::End(Outcome::NotStarted)));
        if self.agenda.len() < planned {
            self.plan(self.now, id, Next::End(Outcome::Cancelled));
        }
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        self.stats.syscalls += 1;
        // Somebody who wakes it wants it to look now, not at the next event.
        let woken = self.waker.clear().then_some(self.now);
        let until = woken.or(until);
        let first = self.agenda.keys().next().map(|key| key.0);
        let limit = match (first, until) {
            (Some(first), Some(until)) => first.min(until),
            (Some(moment), None) | (None, Some(moment)) => moment,
            (None, None) => return Ok(()),
        };
        self.now = self.now.max(limit);
        let jump = self.jump.take();
        if !jump.is_zero() {
            self.stand_still(jump);
            self.now = self.now + jump;
        }
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (id, next) = entry.remove();
            completions.extend(self.happen(id, next));
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
        Shutdown::holding(self.stats.in_flight)
    }
}
