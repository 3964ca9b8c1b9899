//! Tracks reads whose deadlines the backend watches itself. The libaio and the thread backends
//! share it.
//!
//! It owns targets, flights and buffers, and produces the completions. Where a read is, and how it
//! gets to the kernel and back, is up to the backend. `X` is the backend's state of a read.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::backend::{
    Completion, MAX_READ_LEN, Op, OpId, Outcome, Reject, Shutdown, Stage, Stats, TargetId,
};
use crate::buffer::BufferPool;
use crate::closing::SharedFile;
use crate::deadlines::Deadlines;
use crate::errno::KernelResult;
use crate::inflight::{Flight, InFlight};
use crate::table::Table;
use crate::{Key, Mono};

/// The files of all targets.
pub(crate) type Targets = Table<Arc<SharedFile>>;

/// The state of one read.
struct TrackedRead<X> {
    expired: bool,
    backend: X,
}

/// Targets, flights, deadlines and the completions that were not reported yet.
pub(crate) struct ReadTracker<X> {
    pub(crate) targets: Targets,
    flights: InFlight<TrackedRead<X>>,
    deadlines: Deadlines,
    pool: BufferPool,
    unreported: Vec<Completion>,
    pub(crate) stats: Stats,
    /// Shut down or broken: no read is accepted any more.
    pub(crate) closed: bool,
}

/// An accepted read.
pub(crate) struct Accepted {
    pub(crate) id: OpId,
    pub(crate) file: Arc<SharedFile>,
    /// The start of its buffer. Valid until the read has ended.
    pub(crate) address: NonNull<u8>,
}

impl<X> ReadTracker<X> {
    pub(crate) fn new() -> ReadTracker<X> {
        ReadTracker {
            targets: Table::default(),
            flights: InFlight::default(),
            deadlines: Deadlines::default(),
            pool: BufferPool::default(),
            unreported: Vec::new(),
            stats: Stats::default(),
            closed: false,
        }
    }

    /// Takes ownership of a file.
    pub(crate) fn attach(&mut self, file: OwnedFd) -> TargetId {
        TargetId(self.targets.insert(Arc::new(SharedFile::new(file))))
    }

    /// Checks whether a read is acceptable. [`ReadTracker::accept`] may still fail for lack of
    /// memory.
    pub(crate) fn check(&self, op: &Op) -> Result<(), Reject> {
        if self.closed {
            return Err(Reject::Broken);
        }
        let known = self.targets.get(op.target.0).is_some();
        if !known || !(1..=MAX_READ_LEN).contains(&op.len) {
            return Err(Reject::Invalid);
        }
        Ok(())
    }

    /// Takes ownership of a read.
    pub(crate) fn accept(&mut self, op: Op, backend: X) -> Result<Accepted, Reject> {
        self.check(&op)?;
        let file = self.targets.get(op.target.0).ok_or(Reject::Invalid)?;
        let file = Arc::clone(file);
        let buffer = self.pool.take(op.len, |_| false).ok_or(Reject::NoMemory)?;
        let address = self.pool.address(&buffer);
        let key = self.flights.insert(Flight {
            op,
            buffer: Some(buffer),
            state: TrackedRead {
                expired: false,
                backend,
            },
        });
        let flights = &self.flights;
        let live = |key| is_live(flights, key);
        self.deadlines.push(op.deadline, key, flights.len(), live);
        self.stats.in_flight += 1;
        self.assert_counts();
        let id = OpId(key);
        Ok(Accepted { id, file, address })
    }

    /// The backend's state of a read that has not ended.
    pub(crate) fn state_mut(&mut self, id: OpId) -> Option<&mut X> {
        let flight = self.flights.get_mut(id.0)?;
        Some(&mut flight.state.backend)
    }

    /// All reads that have not ended, with the backend's state.
    pub(crate) fn states(&self) -> impl Iterator<Item = (OpId, &X)> {
        let flights = self.flights.iter();
        flights.map(|(key, flight)| (OpId(key), &flight.state.backend))
    }

    /// The kernel returned a read. `None` if there is no such read.
    pub(crate) fn complete(&mut self, id: OpId, result: KernelResult) -> Option<X> {
        let expired = self.flights.get(id.0)?.state.expired;
        let outcome = match result {
            result if expired => Outcome::Late(result),
            Ok(bytes) => Outcome::Read(bytes),
            Err(errno) => Outcome::Failed(errno),
        };
        self.stats.stuck -= usize::from(expired);
        self.finish(id, outcome)
    }

    /// A read ended (with `NotStarted` or `Cancelled`) without having reached the kernel.
    pub(crate) fn withdraw(&mut self, id: OpId, outcome: Outcome) -> Option<X> {
        debug_assert!(
            self.flights
                .get(id.0)
                .is_none_or(|flight| !flight.state.expired),
            "the kernel owns stuck reads"
        );
        self.finish(id, outcome)
    }

    /// A read is stuck: its deadline passed while the kernel owns it.
    pub(crate) fn expire(&mut self, id: OpId, stage: Stage) {
        let Some(flight) = self.flights.get_mut(id.0) else {
            return;
        };
        debug_assert!(!flight.state.expired, "a read expires once");
        flight.state.expired = true;
        let token = flight.op.token;
        self.stats.stuck += 1;
        self.assert_counts();
        self.report(id, token, Outcome::Expired(stage));
    }

    fn finish(&mut self, id: OpId, outcome: Outcome) -> Option<X> {
        let flight = self.flights.remove(id.0)?;
        if let Some(buffer) = flight.buffer {
            self.pool.put(buffer);
        }
        self.stats.in_flight -= 1;
        self.assert_counts();
        self.report(id, flight.op.token, outcome);
        Some(flight.state.backend)
    }

    /// The counters match the tables.
    fn assert_counts(&self) {
        let Stats {
            in_flight, stuck, ..
        } = self.stats;
        debug_assert_eq!(in_flight, self.flights.len());
        debug_assert!(stuck <= in_flight, "{stuck} of {in_flight} are stuck");
    }

    fn report(&mut self, id: OpId, token: u64, outcome: Outcome) {
        self.unreported.push(Completion {
            id,
            token,
            at: Mono::now(),
            outcome,
        });
    }

    /// The next deadline of a read that is not stuck.
    pub(crate) fn next_deadline(&mut self) -> Option<Mono> {
        self.deadlines.next(|key| is_live(&self.flights, key))
    }

    /// Removes a read whose deadline has passed. The caller has to withdraw it or to expire it.
    pub(crate) fn pop_overdue(&mut self, now: Mono) -> Option<OpId> {
        loop {
            let key = self.deadlines.pop(now)?;
            if is_live(&self.flights, key) {
                return Some(OpId(key));
            }
        }
    }

    /// Moves the unreported completions to `completions`. Returns whether there were any.
    pub(crate) fn take_completions(&mut self, completions: &mut Vec<Completion>) -> bool {
        let any = !self.unreported.is_empty();
        completions.append(&mut self.unreported);
        any
    }

    /// Whether there are unreported completions.
    pub(crate) fn has_unreported(&self) -> bool {
        !self.unreported.is_empty()
    }

    /// The result of a shutdown.
    pub(crate) fn shutdown_result(&self) -> Shutdown {
        Shutdown::from_in_flight(self.stats.in_flight)
    }
}

fn is_live<X>(flights: &InFlight<TrackedRead<X>>, key: Key) -> bool {
    flights.get(key).is_some_and(|flight| !flight.state.expired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;
    use std::fs::File;
    use std::time::Duration;

    fn tracker() -> (ReadTracker<()>, TargetId) {
        let mut tracker = ReadTracker::new();
        let file = File::open("/dev/null").expect("/dev/null");
        let target = tracker.attach(file.into());
        (tracker, target)
    }

    fn op(target: TargetId, deadline: Mono) -> Op {
        Op {
            target,
            offset: 0,
            len: 512,
            deadline,
            nowait: true,
            token: 7,
        }
    }

    fn take_outcomes(tracker: &mut ReadTracker<()>) -> Vec<Outcome> {
        let mut completions = Vec::new();
        tracker.take_completions(&mut completions);
        completions
            .iter()
            .map(|completion| completion.outcome)
            .collect()
    }

    #[test]
    fn an_expired_read_keeps_its_buffer_until_it_ends() {
        let (mut tracker, target) = tracker();
        let past = Mono::now();
        let read = tracker.accept(op(target, past), ()).expect("accepted");
        assert_eq!(tracker.pop_overdue(Mono::now()), Some(read.id));
        tracker.expire(read.id, Stage::Device);
        assert_eq!(tracker.pop_overdue(Mono::now()), None);
        assert_eq!(tracker.next_deadline(), None);
        assert_eq!((tracker.stats.in_flight, tracker.stats.stuck), (1, 1));
        let other = tracker.accept(op(target, past), ()).expect("accepted");
        assert_ne!(other.address, read.address);
        assert_eq!(tracker.complete(read.id, Err(Errno::EIO)), Some(()));
        assert_eq!(tracker.complete(other.id, Ok(512)), Some(()));
        assert_eq!(
            tracker.complete(read.id, Ok(512)),
            None,
            "it has already ended"
        );
        let expected = [
            Outcome::Expired(Stage::Device),
            Outcome::Late(Err(Errno::EIO)),
            Outcome::Read(512),
        ];
        assert_eq!(take_outcomes(&mut tracker), expected);
        assert_eq!(tracker.shutdown_result(), Shutdown::Drained);
    }

    #[test]
    fn the_next_deadline_ignores_withdrawn_reads() {
        let (mut tracker, target) = tracker();
        let soon = Mono::now() + Duration::from_secs(1);
        let later = soon + Duration::from_secs(1);
        let first = tracker.accept(op(target, soon), ()).expect("accepted");
        tracker.accept(op(target, later), ()).expect("accepted");
        assert_eq!(tracker.next_deadline(), Some(soon));
        tracker.withdraw(first.id, Outcome::NotStarted);
        assert_eq!(tracker.next_deadline(), Some(later));
        assert_eq!(take_outcomes(&mut tracker), [Outcome::NotStarted]);
    }
}
