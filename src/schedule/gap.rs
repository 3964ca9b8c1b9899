//! Telling a device that does not answer from ourselves not running (pure: no clock, no I/O).
//!
//! A host that is suspended, a virtual machine that is paused, a process that is stopped or starved: then
//! deadlines pass that nobody could have kept, and to call devices dead for that would be wrong. It
//! shows: whoever waits until some moment wakes long after it, and so does whoever has a read in flight
//! whose deadline passes. When in the wait the gap began nobody knows: what fell due in it says nothing if
//! the gap may have taken more than half of the time that it had.

use std::time::Duration;

use pathpulse_kernel_compat::Mono;

/// Less than this is the scheduler of a busy machine.
const LATE_MIN: Duration = Duration::from_millis(250);
/// More than this is worth a line in the log.
pub(crate) const LATE_REMARKABLE: Duration = Duration::from_secs(1);

/// When this thread last did not run although it should have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedulingGap {
    from: Mono,
    to: Mono,
    /// The most that a check may have lost of its time.
    lost: Duration,
}

impl SchedulingGap {
    /// A wait from `from` that was to last until `until`, at most, and ended `now`. Returns by how much it
    /// was late, if that is a gap.
    pub(crate) fn waited(
        &mut self,
        from: Mono,
        until: Option<Mono>,
        now: Mono,
    ) -> Option<Duration> {
        let late = now.since(until?.max(from));
        self.note(from, now, late, late)
    }

    /// A wait from `from` during which the deadline of a read passed, for which the kernel wakes who
    /// waits, and which ended `now`. As [`SchedulingGap::waited`], but the gap may have begun with the wait, and
    /// have left the device no time at all.
    pub(crate) fn missed(&mut self, from: Mono, deadline: Mono, now: Mono) -> Option<Duration> {
        let late = now.since(deadline.max(from));
        self.note(from, now, late, now.since(from))
    }

    fn note(&mut self, from: Mono, to: Mono, late: Duration, lost: Duration) -> Option<Duration> {
        if late <= LATE_MIN {
            return None;
        }
        *self = SchedulingGap { from, to, lost };
        Some(late)
    }

    /// Whether what was to happen at that moment fell into the last gap, and that may have spoiled a check
    /// of this timeout: by less than half of it, it does not.
    pub(crate) fn covers(&self, moment: Mono, timeout: Duration) -> bool {
        self.from < moment && moment <= self.to && self.lost > timeout / 2
    }

    /// When the last stall ended.
    pub(crate) fn end(&self) -> Mono {
        self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn only_waking_long_after_the_time_is_a_stall() {
        let timeout = Duration::from_secs(2);
        let mut stall = SchedulingGap::default();
        stall.waited(at(1_000), Some(at(1_100)), at(2_100));
        stall.waited(at(3_000), Some(at(9_000)), at(9_500));
        stall.waited(at(10_000), None, at(99_000));
        assert!((1..100_000).all(|ms| !stall.covers(at(ms), timeout)));
        let late = stall.waited(at(100_000), Some(at(100_100)), at(101_101));
        assert_eq!(late, Some(Duration::from_millis(1_001)));
        assert!(!stall.covers(at(100_000), timeout) && stall.covers(at(100_001), timeout));
        assert!(stall.covers(at(101_101), timeout) && !stall.covers(at(101_102), timeout));
        assert!(!stall.covers(at(100_500), Duration::from_secs(3)));
    }

    #[test]
    fn a_gap_shows_against_a_deadline_and_may_have_begun_with_the_wait() {
        let mut stall = SchedulingGap::default();
        // Asleep from 0 on, the read's deadline at 2 s, awake at 2.3 s: asleep for anything up to 2.3 s.
        stall.missed(at(0), at(2_000), at(2_300));
        assert!(stall.covers(at(2_000), Duration::from_secs(2)));
        // Awake until 1.9 s: the device had all but 0.1 s of its time.
        stall.missed(at(1_900), at(2_000), at(2_300));
        assert!(!stall.covers(at(2_000), Duration::from_secs(2)));
        // Late by no more than any busy machine is.
        assert_eq!(
            SchedulingGap::default().missed(at(0), at(2_000), at(2_200)),
            None
        );
    }

    #[test]
    fn a_wait_that_was_overdue_from_the_start_counts_from_there() {
        let mut stall = SchedulingGap::default();
        stall.waited(at(5_000), Some(at(1_000)), at(5_200));
        assert!(!stall.covers(at(5_100), Duration::from_millis(1)));
    }
}
