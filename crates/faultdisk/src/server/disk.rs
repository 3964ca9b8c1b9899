//! The state of one disk: its behaviour, held requests and counters. It decides, but does no I/O
//! and reads no clock. `T` is a request that waits for its answer.

use std::collections::VecDeque;

use crate::spec::{Behaviour, Counts};

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Answer,
    /// Answer with at most this many bytes.
    Short(u32),
    /// Fail with this errno.
    Fail(i32),
    Delay(std::time::Duration),
    Hold,
}

/// The condition that a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// At least this many requests held.
    Held(u64),
    /// At least this many requests arrived since the rig started.
    Arrived(u64),
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct DiskState<T> {
    pub(super) behaviour: Behaviour,
    /// Increases with every change of the behaviour, so that an outdated drip can stop.
    pub(super) generation: u64,
    pub(super) counts: Counts,
    pub(super) waiters: Vec<(u64, Goal)>,
    /// The device has vanished: its size is 0, and every request fails.
    pub(super) vanished: bool,
    held: VecDeque<T>,
    since_change: u64,
}

impl<T> DiskState<T> {
    pub(super) fn new() -> Self {
        Self {
            behaviour: Behaviour::Answer,
            generation: 0,
            counts: Counts::default(),
            waiters: Vec::new(),
            vanished: false,
            held: VecDeque::new(),
            since_change: 0,
        }
    }

    pub(super) fn set(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
        self.generation += 1;
        self.since_change = 0;
    }

    /// Decides what to do with a request that has just arrived.
    pub(super) fn decide(&mut self) -> Decision {
        self.since_change += 1;
        match &self.behaviour {
            Behaviour::EveryNth { n, then } if self.since_change.is_multiple_of((*n).max(1)) => {
                plain(then)
            }
            other => plain(other),
        }
    }

    pub(super) fn hold(&mut self, request: T) {
        self.held.push_back(request);
        self.counts.held += 1;
    }

    /// Takes the oldest held requests, at most `most`.
    pub(super) fn take_oldest(&mut self, most: usize) -> Vec<T> {
        let oldest = self.held.drain(..most.min(self.held.len())).collect();
        self.counts.held = self.held.len() as u64;
        oldest
    }

    pub(super) fn take_all(&mut self) -> VecDeque<T> {
        self.counts.held = 0;
        std::mem::take(&mut self.held)
    }

    /// Takes the waiters whose goal is reached, with their results.
    pub(super) fn reached(&mut self) -> Vec<(u64, u64)> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let (held, io) = (self.counts.held, self.counts.reads + self.counts.writes);
        let value = |goal: Goal| match goal {
            Goal::Held(at_least) => (held, at_least),
            Goal::Arrived(at_least) => (io, at_least),
        };
        let is_reached = |&mut (_, goal): &mut (u64, Goal)| value(goal).0 >= value(goal).1;
        self.waiters
            .extract_if(.., is_reached)
            .map(|(id, goal)| (id, value(goal).0))
            .collect()
    }
}

fn plain(behaviour: &Behaviour) -> Decision {
    match behaviour {
        Behaviour::Answer | Behaviour::EveryNth { .. } => Decision::Answer,
        Behaviour::Delay(time) => Decision::Delay(*time),
        Behaviour::Fail(errno) => Decision::Fail(*errno),
        Behaviour::Hang | Behaviour::Drip { .. } => Decision::Hold,
        Behaviour::Short(bytes) => Decision::Short(*bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_read_fails_and_a_change_resets_the_count() {
        let mut disk = DiskState::<()>::new();
        let every_third = Behaviour::EveryNth {
            n: 3,
            then: Box::new(Behaviour::Fail(5)),
        };
        let decide =
            |disk: &mut DiskState<()>, n: usize| (0..n).map(|_| disk.decide()).collect::<Vec<_>>();
        disk.set(every_third.clone());
        assert_eq!(
            decide(&mut disk, 4),
            [
                Decision::Answer,
                Decision::Answer,
                Decision::Fail(5),
                Decision::Answer
            ]
        );
        disk.set(every_third);
        assert_eq!(
            decide(&mut disk, 3),
            [Decision::Answer, Decision::Answer, Decision::Fail(5)]
        );
    }

    #[test]
    fn held_requests_are_taken_in_order() {
        let mut disk = DiskState::new();
        (1..=3).for_each(|i| disk.hold(i));
        assert_eq!((disk.take_oldest(2), disk.counts.held), (vec![1, 2], 1));
        assert_eq!(disk.take_all(), [3]);
        assert_eq!(disk.counts.held, 0);
    }

    #[test]
    fn a_waiter_is_taken_once_when_its_goal_is_reached() {
        let mut disk = DiskState::new();
        disk.waiters = vec![(7, Goal::Held(2)), (8, Goal::Held(1))];
        disk.hold(());
        assert_eq!(disk.reached(), [(8, 1)]);
        assert_eq!(disk.reached(), []);
        disk.hold(());
        assert_eq!(disk.reached(), [(7, 2)]);
    }
}
