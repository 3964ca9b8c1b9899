//! Telling a device that does not answer from ourselves not running (pure: no clock, no I/O).
//!
//! A host that is suspended, a virtual machine that is paused, a process that is stopped or starved: then
//! deadlines pass that nobody could have kept, and to call devices dead for that would be wrong. It
//! shows: whoever waits until some moment wakes long after it. What fell due in between says nothing.

use std::time::Duration;

use pathpulse_kernel_compat::Mono;

/// Less than this is the scheduler of a busy machine.
const LATE_MIN: Duration = Duration::from_millis(250);
/// More than this is worth a line in the log.
const LATE_REMARKABLE: Duration = Duration::from_secs(1);

/// When this thread last did not run although it should have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stall {
    from: Mono,
    to: Mono,
    late: Duration,
}

impl Stall {
    /// A wait from `from` that was to last until `until`, at most, and ended `now`.
    pub(crate) fn waited(&mut self, from: Mono, until: Option<Mono>, now: Mono) {
        let Some(until) = until else {
            return;
        };
        let late = now.since(until.max(from));
        if late <= LATE_MIN {
            return;
        }
        *self = Stall {
            from,
            to: now,
            late,
        };
        if late > LATE_REMARKABLE {
            tracing::warn!(
                late_ms = late.as_millis(),
                "did not run for a while (suspended, stopped or starved); checks that were to end meanwhile say nothing"
            );
        }
    }

    /// Whether what was to happen at that moment fell into the last stall, and that spoils a check of
    /// this timeout: what took less than half of it does not.
    pub(crate) fn covers(&self, moment: Mono, timeout: Duration) -> bool {
        self.from < moment && moment <= self.to && self.late > timeout / 2
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
        let mut stall = Stall::default();
        stall.waited(at(1_000), Some(at(1_100)), at(2_100));
        stall.waited(at(3_000), Some(at(9_000)), at(9_500));
        stall.waited(at(10_000), None, at(99_000));
        assert!((1..100_000).all(|ms| !stall.covers(at(ms), timeout)));
        stall.waited(at(100_000), Some(at(100_100)), at(101_101));
        assert!(!stall.covers(at(100_000), timeout) && stall.covers(at(100_001), timeout));
        assert!(stall.covers(at(101_101), timeout) && !stall.covers(at(101_102), timeout));
        assert!(!stall.covers(at(100_500), Duration::from_secs(3)));
    }

    #[test]
    fn a_wait_that_was_overdue_from_the_start_counts_from_there() {
        let mut stall = Stall::default();
        stall.waited(at(5_000), Some(at(1_000)), at(5_200));
        assert!(!stall.covers(at(5_100), Duration::from_millis(1)));
    }
}
