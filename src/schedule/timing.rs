//! When the checks of one path are due (pure: no clock, no I/O).

use std::time::Duration;

use pathpulse_kernel_compat::Mono;

use super::spread::spread;

/// How often a path is checked, and at which phase of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckTiming {
    interval_ns: u64,
    phase: u32,
}

impl CheckTiming {
    /// Checks once per interval, at this phase. Phases follow the golden ratio: any number of them
    /// is spread evenly over the interval, and adding one moves no other.
    pub(crate) fn new(interval: Duration, phase: u32) -> CheckTiming {
        let interval_ns = nanos(interval).max(1);
        CheckTiming { interval_ns, phase }
    }

    /// The number of the phase.
    pub(crate) fn phase(&self) -> u32 {
        self.phase
    }

    /// Time from the beginning of the interval to the phase.
    fn phase_ns(&self) -> u64 {
        spread(self.phase.into(), self.interval_ns)
    }

    /// The first check time of the path after `now`.
    pub(crate) fn next_after(&self, now: Mono) -> Mono {
        let phase_ns = self.phase_ns();
        if now.as_nanos() < phase_ns {
            return Mono::from_nanos(phase_ns);
        }
        let rounds = (now.as_nanos() - phase_ns) / self.interval_ns + 1;
        Mono::from_nanos(phase_ns.saturating_add(rounds * self.interval_ns))
    }

    /// A quarter of the interval after `now`: for a path whose state may be about to change.
    pub(crate) fn soon(&self, now: Mono) -> Mono {
        now + Duration::from_nanos(self.interval_ns / 4)
    }
}

/// A time span in nanoseconds; one that does not fit counts as nearly three centuries.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn phases_are_spread_evenly() {
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
    fn the_next_check_is_after_now_and_within_one_interval() {
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
