//! What is due when (pure: no clock, no I/O).
//!
//! Two things: when a path's next check is due ([`CheckTiming`]), and a timing wheel that says which
//! entries are due now ([`Schedule`]). Time is cut into slots, and everything of a slot is due
//! together, so that one wake-up and one system call serve many paths.

use std::collections::VecDeque;
use std::time::Duration;

use pathpulse_kernel_compat::Mono;

/// Slots that the wheel can tell apart; what is due later goes round once more.
const SLOTS: u64 = 256;
/// A slot is at most this part of the interval, within the limits below: at the usual two seconds a
/// worker wakes four times a second for its checks, however many paths it has.
const SLOTS_PER_INTERVAL: u64 = 7;
/// Slots are a power of two of this, so that the times of coarse ones are times of finer ones, too.
const SLOT_MIN_NS: u64 = 1_000_000;
const SLOT_MAX_NS: u64 = 256 * SLOT_MIN_NS;

/// How often a path is checked, and where within the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckTiming {
    interval_ns: u64,
    place: u32,
}

impl CheckTiming {
    /// Checks at a place of the interval. Places follow the golden ratio: however many there are, they
    /// lie evenly in the interval, and none moves when one is added.
    pub(crate) fn new(interval: Duration, place: u32) -> CheckTiming {
        let interval_ns = nanos(interval).max(1);
        CheckTiming { interval_ns, place }
    }

    /// The number of its place.
    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    /// From the interval's beginning to its place.
    fn phase_ns(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let turn = u128::from(u64::from(self.place).wrapping_mul(GOLDEN));
        ((turn * u128::from(self.interval_ns)) >> 64) as u64
    }

    /// The first time of the path's own after `now`.
    pub(crate) fn next_after(&self, now: Mono) -> Mono {
        let phase_ns = self.phase_ns();
        if now.as_nanos() < phase_ns {
            return Mono::from_nanos(phase_ns);
        }
        let rounds = (now.as_nanos() - phase_ns) / self.interval_ns + 1;
        Mono::from_nanos(phase_ns.saturating_add(rounds * self.interval_ns))
    }

    /// A quarter of the interval from now: for a path whose state is about to change.
    pub(crate) fn soon(&self, now: Mono) -> Mono {
        now + Duration::from_nanos(self.interval_ns / 4)
    }
}

/// A timing wheel of `K`s.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    slot_ns: u64,
    wheel: Vec<Vec<(u64, K)>>,
    /// The first slot that was not taken yet.
    cursor: u64,
    len: usize,
    /// The slot of the next entry, as long as that is known.
    next: Option<u64>,
}

impl<K: Copy> Schedule<K> {
    /// An empty schedule whose slots suit checks at this interval.
    pub(crate) fn new(interval: Duration) -> Schedule<K> {
        Schedule {
            slot_ns: slot_ns(interval),
            wheel: (0..SLOTS).map(|_| Vec::new()).collect(),
            cursor: 0,
            len: 0,
            next: None,
        }
    }

    /// Makes the slots fine enough for checks at this interval, too.
    pub(crate) fn suit(&mut self, interval: Duration) {
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

    /// Puts an entry in; it is due at the first slot's beginning that is not before `due`. Returns
    /// when that is.
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

    /// Takes everything that is due, with the time it was due at, in the order of time.
    pub(crate) fn take_due(&mut self, now: Mono, due: &mut VecDeque<(Mono, K)>) {
        let last = now.as_nanos() / self.slot_ns;
        if last < self.cursor {
            return;
        }
        let before = due.len();
        // After a long stall one round reaches every place of the wheel.
        for slot in self.cursor..=last.min(self.cursor + SLOTS - 1) {
            let place = &mut self.wheel[(slot % SLOTS) as usize];
            let slot_ns = self.slot_ns;
            let ripe = place.extract_if(.., |entry| entry.0 <= last);
            due.extend(ripe.map(|(slot, key)| (Mono::from_nanos(slot * slot_ns), key)));
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
            let place = &self.wheel[(slot % SLOTS) as usize];
            place.iter().any(|entry| entry.0 == *slot)
        });
        in_order.or_else(|| self.wheel.iter().flatten().map(|entry| entry.0).min())
    }
}

fn slot_ns(interval: Duration) -> u64 {
    let most = (nanos(interval) / SLOTS_PER_INTERVAL).clamp(SLOT_MIN_NS, SLOT_MAX_NS);
    SLOT_MIN_NS << (most / SLOT_MIN_NS).ilog2()
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2)
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
    fn entries_come_when_due_and_only_once() {
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
    fn finer_slots_keep_what_is_in() {
        let mut schedule = Schedule::new(SECOND / 2);
        assert_eq!(take(&mut schedule, at(64)), []);
        let far = schedule.insert(at(90_000), 1);
        let near = schedule.insert(at(150), 2);
        schedule.suit(4 * SECOND);
        assert_eq!(schedule.insert(at(130), 3), at(192), "no coarser");
        schedule.suit(SECOND / 10);
        assert_eq!(schedule.insert(at(129), 4), at(136));
        assert_eq!(schedule.next(), Some(at(136)));
        assert_eq!(take(&mut schedule, at(191)), [4]);
        assert_eq!(take(&mut schedule, near), [2, 3]);
        assert_eq!(schedule.next(), Some(far));
        assert_eq!(take(&mut schedule, far), [1]);
    }

    #[test]
    fn what_is_overdue_comes_at_once() {
        let mut schedule = Schedule::new(SECOND / 2);
        assert_eq!(take(&mut schedule, at(5000)), []);
        schedule.insert(at(10), 1);
        assert!(schedule.next().expect("one") <= at(5064));
        assert_eq!(take(&mut schedule, at(5064)), [1]);
    }

    #[test]
    fn far_entries_go_round_the_wheel() {
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
    fn a_stall_loses_nothing() {
        let mut schedule = Schedule::new(SECOND / 2);
        for key in 0..1000 {
            schedule.insert(at(u64::from(key) * 70), key);
        }
        let mut all = take(&mut schedule, at(1_000_000));
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn phases_are_even_and_stable() {
        let interval = 2 * SECOND;
        for count in [1u32, 7, 100, 1000] {
            let mut tenths = [0u32; 10];
            for nth in 0..count {
                let phase = CheckTiming::new(interval, nth).phase_ns();
                assert!(phase < 2_000_000_000);
                tenths[(phase / 200_000_000) as usize] += 1;
            }
            let most = tenths.iter().max().expect("ten");
            assert!(*most <= count / 10 + 2, "{count}: {tenths:?}");
        }
    }

    #[test]
    fn the_next_time_is_after_now_and_at_most_an_interval_away() {
        for nth in 0..50 {
            let timing = CheckTiming::new(SECOND, nth);
            let mut now = Mono::ZERO;
            for _ in 0..5 {
                let next = timing.next_after(now);
                assert!(next > now || now == Mono::ZERO);
                assert!(next.since(now) <= SECOND);
                assert_eq!(next.as_nanos() % 1_000_000_000, timing.phase_ns());
                now = next;
            }
        }
    }
}
