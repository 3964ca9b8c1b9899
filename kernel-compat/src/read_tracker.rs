//! Reads whose deadlines the backend watches itself: what the backends over libaio and over threads
//! have in common.
//!
//! It owns targets, flights and buffers, and says what has to be told about each. Where a read is,
//! and how it gets to the kernel and back, is the backend's; `X` is what that notes about it.

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

/// What is known of one read.
struct Watched<X> {
    expired: bool,
    place: X,
}

/// Targets, flights, deadlines and what was not told yet.
pub(crate) struct Desk<X> {
    pub(crate) targets: Targets,
    flights: InFlight<Watched<X>>,
    deadlines: Deadlines,
    pool: BufferPool,
    untold: Vec<Completion>,
    pub(crate) stats: Stats,
    /// Shut down or broken: nothing is accepted any more.
    pub(crate) closed: bool,
}

/// An accepted read.
pub(crate) struct Accepted {
    pub(crate) id: OpId,
    pub(crate) file: Arc<SharedFile>,
    /// Where its buffer is; valid until the read is said to have ended.
    pub(crate) address: NonNull<u8>,
}

impl<X> Desk<X> {
    pub(crate) fn new() -> Desk<X> {
        Desk {
            targets: Table::default(),
            flights: InFlight::default(),
            deadlines: Deadlines::default(),
            pool: BufferPool::default(),
            untold: Vec::new(),
            stats: Stats::default(),
            closed: false,
        }
    }

    /// Takes a file over.
    pub(crate) fn attach(&mut self, file: OwnedFd) -> TargetId {
        TargetId(self.targets.insert(Arc::new(SharedFile::new(file))))
    }

    /// Whether a read is acceptable as such; [`Desk::accept`] may still lack memory.
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

    /// Takes a read over.
    pub(crate) fn accept(&mut self, op: Op, place: X) -> Result<Accepted, Reject> {
        self.check(&op)?;
        let file = self.targets.get(op.target.0).ok_or(Reject::Invalid)?;
        let file = Arc::clone(file);
        let buffer = self.pool.take(op.len, |_| false).ok_or(Reject::NoMemory)?;
        let address = self.pool.address(&buffer);
        let key = self.flights.insert(Flight {
            op,
            buffer: Some(buffer),
            notes: Watched {
                expired: false,
                place,
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

    /// What the backend noted about a read that has not ended.
    pub(crate) fn place(&mut self, id: OpId) -> Option<&mut X> {
        let flight = self.flights.get_mut(id.0)?;
        Some(&mut flight.notes.place)
    }

    /// All reads that have not ended, and what was noted about them.
    pub(crate) fn places(&self) -> impl Iterator<Item = (OpId, &X)> {
        let flights = self.flights.iter();
        flights.map(|(key, flight)| (OpId(key), &flight.notes.place))
    }

    /// The kernel gave a read back. `None` if there is no such read.
    pub(crate) fn ended(&mut self, id: OpId, result: KernelResult) -> Option<X> {
        let expired = self.flights.get(id.0)?.notes.expired;
        let outcome = match result {
            result if expired => Outcome::Late(result),
            Ok(bytes) => Outcome::Read(bytes),
            Err(errno) => Outcome::Failed(errno),
        };
        self.stats.stuck -= usize::from(expired);
        self.finish(id, outcome)
    }

    /// A read ended (in `NotStarted` or `Cancelled`) without having been with the kernel.
    pub(crate) fn withdrawn(&mut self, id: OpId, outcome: Outcome) -> Option<X> {
        debug_assert!(
            self.flights
                .get(id.0)
                .is_none_or(|flight| !flight.notes.expired),
            "what is stuck is the kernel's"
        );
        self.finish(id, outcome)
    }

    /// A read is stuck.
    pub(crate) fn expired(&mut self, id: OpId, stage: Stage) {
        let Some(flight) = self.flights.get_mut(id.0) else {
            return;
        };
        debug_assert!(!flight.notes.expired, "a read expires once");
        flight.notes.expired = true;
        let token = flight.op.token;
        self.stats.stuck += 1;
        self.assert_counts();
        self.tell(id, token, Outcome::Expired(stage));
    }

    fn finish(&mut self, id: OpId, outcome: Outcome) -> Option<X> {
        let flight = self.flights.remove(id.0)?;
        if let Some(buffer) = flight.buffer {
            self.pool.put(buffer);
        }
        self.stats.in_flight -= 1;
        self.assert_counts();
        self.tell(id, flight.op.token, outcome);
        Some(flight.notes.place)
    }

    /// What is counted by hand is what there is.
    fn assert_counts(&self) {
        let Stats {
            in_flight, stuck, ..
        } = self.stats;
        debug_assert_eq!(in_flight, self.flights.len());
        debug_assert!(stuck <= in_flight, "{stuck} of {in_flight} are stuck");
    }

    fn tell(&mut self, id: OpId, token: u64, outcome: Outcome) {
        self.untold.push(Completion {
            id,
            token,
            at: Mono::now(),
            outcome,
        });
    }

    /// The next deadline of a read that is not stuck yet.
    pub(crate) fn next_deadline(&mut self) -> Option<Mono> {
        self.deadlines.next(|key| is_live(&self.flights, key))
    }

    /// A read whose deadline has passed: it has to be withdrawn or to expire now.
    pub(crate) fn overdue(&mut self, now: Mono) -> Option<OpId> {
        loop {
            let key = self.deadlines.pop(now)?;
            if is_live(&self.flights, key) {
                return Some(OpId(key));
            }
        }
    }

    /// Hands over what is to be told; says whether there was anything.
    pub(crate) fn hand_over(&mut self, completions: &mut Vec<Completion>) -> bool {
        let any = !self.untold.is_empty();
        completions.append(&mut self.untold);
        any
    }

    /// Whether something is to be told.
    pub(crate) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// What a shutdown leaves.
    pub(crate) fn left(&self) -> Shutdown {
        Shutdown::holding(self.stats.in_flight)
    }
}

fn is_live<X>(flights: &InFlight<Watched<X>>, key: Key) -> bool {
    flights.get(key).is_some_and(|flight| !flight.notes.expired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;
    use std::fs::File;
    use std::time::Duration;

    fn desk() -> (Desk<()>, TargetId) {
        let mut desk = Desk::new();
        let file = File::open("/dev/null").expect("/dev/null");
        let target = desk.attach(file.into());
        (desk, target)
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

    fn told(desk: &mut Desk<()>) -> Vec<Outcome> {
        let mut completions = Vec::new();
        desk.hand_over(&mut completions);
        completions.iter().map(|told| told.outcome).collect()
    }

    #[test]
    fn an_expired_read_keeps_its_buffer_until_it_ends() {
        let (mut desk, target) = desk();
        let past = Mono::now();
        let read = desk.accept(op(target, past), ()).expect("accepted");
        assert_eq!(desk.overdue(Mono::now()), Some(read.id));
        desk.expired(read.id, Stage::Device);
        assert_eq!(desk.overdue(Mono::now()), None);
        assert_eq!(desk.next_deadline(), None);
        assert_eq!((desk.stats.in_flight, desk.stats.stuck), (1, 1));
        let other = desk.accept(op(target, past), ()).expect("accepted");
        assert_ne!(other.address, read.address);
        assert_eq!(desk.ended(read.id, Err(Errno::EIO)), Some(()));
        assert_eq!(desk.ended(other.id, Ok(512)), Some(()));
        assert_eq!(desk.ended(read.id, Ok(512)), None, "it has ended before");
        let expected = [
            Outcome::Expired(Stage::Device),
            Outcome::Late(Err(Errno::EIO)),
            Outcome::Read(512),
        ];
        assert_eq!(told(&mut desk), expected);
        assert_eq!(desk.left(), Shutdown::Drained);
    }

    #[test]
    fn the_next_deadline_is_that_of_a_read_that_can_still_meet_it() {
        let (mut desk, target) = desk();
        let soon = Mono::now() + Duration::from_secs(1);
        let later = soon + Duration::from_secs(1);
        let first = desk.accept(op(target, soon), ()).expect("accepted");
        desk.accept(op(target, later), ()).expect("accepted");
        assert_eq!(desk.next_deadline(), Some(soon));
        desk.withdrawn(first.id, Outcome::NotStarted);
        assert_eq!(desk.next_deadline(), Some(later));
        assert_eq!(told(&mut desk), [Outcome::NotStarted]);
    }
}
