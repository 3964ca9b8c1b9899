//! A timing wheel: which entries are due now (pure: no clock, no I/O).
//!
//! The wheel divides time into slots, and all entries of a slot are due together. One wake-up and
//! one system call then serve many paths.

use std::collections::VecDeque;
use std::time::Duration;

use pathpulse_kernel_compat::Mono;

use crate::schedule::timing::nanos;

/// Number of slots of the wheel. Entries that are due later stay for another round.
const SLOTS: u64 = 256;
/// Slots per interval, within the limits below. At the default interval of two seconds a worker
/// wakes up about four times a second for its checks, however many paths it has.
const SLOTS_PER_INTERVAL: u64 = 7;
/// Slot lengths are this times a power of two, so that slot limits of a coarse wheel are slot
/// limits of a finer wheel, too.
const SLOT_MIN_NS: u64 = 1_000_000;
const SLOT_MAX_NS: u64 = 256 * SLOT_MIN_NS;

/// A timing wheel of `K`s.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    slot_ns: u64,
    wheel: Vec<Vec<(u64, K)>>,
    /// The first slot that was not taken yet.
    cursor: u64,
    len: usize,
    /// The slot of the next entry, if it is known.
    next: Option<u64>,
}

impl<K: Copy> Schedule<K> {
    /// An empty schedule with slots for checks at this interval.
    pub(crate) fn new(interval: Duration) -> Schedule<K> {
        Schedule {
            slot_ns: slot_ns(interval),
            wheel: (0..SLOTS).map(|_| Vec::new()).collect(),
            cursor: 0,
            len: 0,
            next: None,
        }
    }

    /// Makes the slots fine enough for checks at this interval.
    pub(crate) fn refine_for(&mut self, interval: Duration) {
        let fine = slot_ns(interval);
        if fine >= self.slot_ns {
            return;
        }
        let times = self.slot_ns / fine;
        let entries: Vec<(u64, K)> = self.wheel.iter_mut().flat_map(std::mem::take).collect();
        self.slot_ns = fine;
        self.cursor *= times;
        self.next = None;
        for (slot, key) in entries {
            let slot = slot * times;
            self.wheel[(slot % SLOTS) as usize].push((slot, key));
        }
    }

    /// Adds an entry. It is due at the beginning of the first slot that does not begin before
    /// `due`. Returns that time.
    pub(crate) fn insert(&mut self, due: Mono, key: K) -> Mono {
        let slot = due.as_nanos().div_ceil(self.slot_ns).max(self.cursor);
        self.wheel[(slot % SLOTS) as usize].push((slot, key));
        self.next = match self.next {
            Some(next) => Some(next.min(slot)),
            None if self.len == 0 => Some(slot),
            None => None,
        };
        self.len += 1;
        Mono::from_nanos(slot.saturating_mul(self.slot_ns))
    }

    /// Takes all due entries with their due times, in the order of time.
    pub(crate) fn take_due(&mut self, now: Mono, due: &mut VecDeque<(Mono, K)>) {
        let last = now.as_nanos() / self.slot_ns;
        if last < self.cursor {
            return;
        }
        let before = due.len();
        // After a long gap one round visits every position of the wheel.
        for slot in self.cursor..=last.min(self.cursor + SLOTS - 1) {
            let position = &mut self.wheel[(slot % SLOTS) as usize];
            let slot_ns = self.slot_ns;
            let is_due = position.extract_if(.., |entry| entry.0 <= last);
            due.extend(is_due.map(|(slot, key)| (Mono::from_nanos(slot * slot_ns), key)));
        }
        let taken = due.len() - before;
        if taken > 0 {
            self.len -= taken;
            self.next = None;
        }
        self.cursor = last + 1;
    }

    /// When the next entry is due.
    pub(crate) fn next(&mut self) -> Option<Mono> {
        if self.next.is_none() {
            self.next = self.find_next();
        }
        let slot = self.next?;
        Some(Mono::from_nanos(slot.saturating_mul(self.slot_ns)))
    }

    fn find_next(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let in_order = (self.cursor..self.cursor + SLOTS).find(|slot| {
            let position = &self.wheel[(slot % SLOTS) as usize];
            position.iter().any(|entry| entry.0 == *slot)
        });
        in_order.or_else(|| self.wheel.iter().flatten().map(|entry| entry.0).min())
    }
}

fn slot_ns(interval: Duration) -> u64 {
    let most = (nanos(interval) / SLOTS_PER_INTERVAL).clamp(SLOT_MIN_NS, SLOT_MAX_NS);
    SLOT_MIN_NS << (most / SLOT_MIN_NS).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(ms)
    }

    fn take(schedule: &mut Schedule<u32>, now: Mono) -> Vec<u32> {
        let mut due = VecDeque::new();
        schedule.take_due(now, &mut due);
        due.into_iter().map(|entry| entry.1).collect()
    }

    #[test]
    fn entries_are_taken_once_and_when_due() {
        let mut schedule = Schedule::new(SECOND / 2);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.insert(at(150), 1), at(192));
        schedule.insert(at(192), 2);
        schedule.insert(at(300), 3);
        assert_eq!(schedule.next(), Some(at(192)));
        assert_eq!(take(&mut schedule, at(191)), []);
        assert_eq!(take(&mut schedule, at(192)), [1, 2]);
        assert_eq!(schedule.next(), Some(at(320)));
        assert_eq!(take(&mut schedule, at(1000)), [3]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn finer_slots_keep_the_entries() {
        let mut schedule = Schedule::new(SECOND / 2);
        assert_eq!(take(&mut schedule, at(64)), []);
        let far = schedule.insert(at(90_000), 1);
        let near = schedule.insert(at(150), 2);
        schedule.refine_for(4 * SECOND);
        assert_eq!(
            schedule.insert(at(130), 3),
            at(192),
            "the slots stay as fine"
        );
        schedule.refine_for(SECOND / 10);
        assert_eq!(schedule.insert(at(129), 4), at(136));
        assert_eq!(schedule.next(), Some(at(136)));
        assert_eq!(take(&mut schedule, at(191)), [4]);
        assert_eq!(take(&mut schedule, near), [2, 3]);
        assert_eq!(schedule.next(), Some(far));
        assert_eq!(take(&mut schedule, far), [1]);
    }

    #[test]
    fn overdue_entries_are_taken_at_once() {
        let mut schedule = Schedule::new(SECOND / 2);
        assert_eq!(take(&mut schedule, at(5000)), []);
        schedule.insert(at(10), 1);
        assert!(schedule.next().expect("one") <= at(5064));
        assert_eq!(take(&mut schedule, at(5064)), [1]);
    }

    #[test]
    fn entries_beyond_the_wheel_are_taken_when_due() {
        let mut schedule = Schedule::new(SECOND / 2);
        schedule.insert(at(99_968), 1);
        schedule.insert(at(50), 2);
        assert_eq!(take(&mut schedule, at(100)), [2]);
        assert_eq!(schedule.next(), Some(at(99_968)));
        for ms in (200..99_968).step_by(100) {
            assert_eq!(take(&mut schedule, at(ms)), []);
        }
        assert_eq!(take(&mut schedule, at(99_968)), [1]);
    }

    #[test]
    fn a_long_gap_loses_no_entry() {
        let mut schedule = Schedule::new(SECOND / 2);
        for key in 0..1000 {
            schedule.insert(at(u64::from(key) * 70), key);
        }
        let mut all = take(&mut schedule, at(1_000_000));
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(schedule.next(), None);
    }
}
