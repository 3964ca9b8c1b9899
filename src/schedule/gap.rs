//! Tells a silent device from a process that did not run (pure: no clock, no I/O).
//!
//! A suspended host, a paused virtual machine, or a stopped or starved process misses deadlines
//! through no fault of its devices. Such a gap is visible in two ways: a wait ends long after its
//! timeout, or a completion reports an expired deadline long after that deadline. Nobody knows when
//! within the wait the gap began. A deadline that fell into a gap therefore says nothing about the
//! device if the gap may have taken more than half of the check's time.

use std::time::Duration;

use pathpulse_kernel_compat::Mono;

/// Delays up to this come from the scheduler of a busy machine and do not count as a gap.
const LATE_MIN: Duration = Duration::from_millis(250);
/// The log reports gaps longer than this.
pub(crate) const LOGGED_GAP_MIN: Duration = Duration::from_secs(1);

/// The last time that this thread was not scheduled although it should have run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedulingGap {
    from: Mono,
    to: Mono,
    /// The largest part of a check's time that the gap may have taken.
    lost: Duration,
}

impl SchedulingGap {
    /// Records a wait that began at `from`, was due to end by `until`, and ended at `now`. Returns
    /// the delay if it is a gap.
    pub(crate) fn note_wait(
        &mut self,
        from: Mono,
        until: Option<Mono>,
        now: Mono,
    ) -> Option<Duration> {
        let late = now.since(until?.max(from));
        self.record(from, now, late, late)
    }

    /// Records a wait that began at `from` and ended at `now`, during which the deadline of a read
    /// passed. The kernel wakes the waiting thread at that deadline. Unlike in
    /// [`SchedulingGap::note_wait`], the gap may have begun together with the wait and left the
    /// device no time at all.
    pub(crate) fn note_missed_deadline(
        &mut self,
        from: Mono,
        deadline: Mono,
        now: Mono,
    ) -> Option<Duration> {
        let late = now.since(deadline.max(from));
        self.record(from, now, late, now.since(from))
    }

    fn record(&mut self, from: Mono, to: Mono, late: Duration, lost: Duration) -> Option<Duration> {
        if late <= LATE_MIN {
            return None;
        }
        *self = SchedulingGap { from, to, lost };
        Some(late)
    }

    /// Whether `moment` lies in the last gap, and the gap may have spoiled a check with this
    /// timeout. A gap that took less than half of the timeout does not.
    pub(crate) fn covers(&self, moment: Mono, timeout: Duration) -> bool {
        self.from < moment && moment <= self.to && self.lost > timeout / 2
    }

    /// When the last gap ended.
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
    fn only_a_long_delayed_wakeup_is_a_gap() {
        let timeout = Duration::from_secs(2);
        let mut gap = SchedulingGap::default();
        gap.note_wait(at(1_000), Some(at(1_100)), at(2_100));
        gap.note_wait(at(3_000), Some(at(9_000)), at(9_500));
        gap.note_wait(at(10_000), None, at(99_000));
        assert!((1..100_000).all(|ms| !gap.covers(at(ms), timeout)));
        let late = gap.note_wait(at(100_000), Some(at(100_100)), at(101_101));
        assert_eq!(late, Some(Duration::from_millis(1_001)));
        assert!(!gap.covers(at(100_000), timeout) && gap.covers(at(100_001), timeout));
        assert!(gap.covers(at(101_101), timeout) && !gap.covers(at(101_102), timeout));
        assert!(!gap.covers(at(100_500), Duration::from_secs(3)));
    }

    #[test]
    fn a_missed_deadline_shows_a_gap_that_may_span_the_whole_wait() {
        let mut gap = SchedulingGap::default();
        // Asleep from 0 on, deadline of the read at 2 s, awake at 2.3 s: the gap took up to 2.3 s.
        gap.note_missed_deadline(at(0), at(2_000), at(2_300));
        assert!(gap.covers(at(2_000), Duration::from_secs(2)));
        // Awake until 1.9 s: the device had all but 0.1 s of its time.
        gap.note_missed_deadline(at(1_900), at(2_000), at(2_300));
        assert!(!gap.covers(at(2_000), Duration::from_secs(2)));
        // This delay is normal on a busy machine.
        assert_eq!(
            SchedulingGap::default().note_missed_deadline(at(0), at(2_000), at(2_200)),
            None
        );
    }

    #[test]
    fn the_delay_of_an_overdue_wait_counts_from_its_start() {
        let mut gap = SchedulingGap::default();
        gap.note_wait(at(5_000), Some(at(1_000)), at(5_200));
        assert!(!gap.covers(at(5_100), Duration::from_millis(1)));
    }
}
