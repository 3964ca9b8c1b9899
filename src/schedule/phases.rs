//! Assigns each path a phase within its check interval (pure: no clock, no I/O).
//!
//! A wake-up costs more than a check. The first paths of an interval therefore share a few phases:
//! a host with four paths wakes up once per interval. Each further path gets a phase of its own, so
//! that thousands of checks spread evenly.

use std::collections::HashMap;
use std::time::Duration;

use crate::schedule::CheckTiming;

/// Number of shared phases, and paths per shared phase. A host serves 16 simultaneous reads with
/// ease, and the 64 paths that a small host has at most still spread over four phases.
const SHARED_PHASES: usize = 4;
const PATHS_PER_SHARED_PHASE: u32 = 16;

/// The phases of a worker's paths, per interval.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    intervals: HashMap<Duration, IntervalPhases>,
}

/// The phases of one interval.
#[derive(Debug, Default)]
struct IntervalPhases {
    /// Number of paths in each phase.
    path_counts: Vec<u32>,
    /// All phases before this one are full.
    first_free: usize,
    /// The sum of `path_counts`.
    paths: usize,
}

impl Phases {
    /// Assigns a path the first phase with room. The path keeps it, whatever other paths do, until
    /// [`Phases::release`] gives it back.
    pub(crate) fn assign(&mut self, interval: Duration) -> CheckTiming {
        let phases = self.intervals.entry(interval).or_default();
        CheckTiming::new(interval, phases.assign())
    }

    /// Gives back the phase that [`Phases::assign`] assigned for this interval.
    pub(crate) fn release(&mut self, interval: Duration, timing: CheckTiming) {
        let Some(phases) = self.intervals.get_mut(&interval) else {
            unreachable!("a path gave back a phase of an interval without paths");
        };
        phases.release(timing.phase());
        if phases.paths == 0 {
            self.intervals.remove(&interval);
        }
    }

    /// Number of paths that have a phase.
    pub(crate) fn paths(&self) -> usize {
        self.intervals.values().map(|phases| phases.paths).sum()
    }
}

impl IntervalPhases {
    fn assign(&mut self) -> u32 {
        let room = |phase: &usize| {
            let count = self.path_counts.get(*phase).copied().unwrap_or(0);
            count < capacity_of(*phase)
        };
        let Some(phase) = (self.first_free..=self.path_counts.len()).find(room) else {
            unreachable!("a new phase has room");
        };
        if phase == self.path_counts.len() {
            self.path_counts.push(0);
        }
        self.path_counts[phase] += 1;
        self.first_free = phase;
        self.paths += 1;
        u32::try_from(phase).unwrap_or(u32::MAX)
    }

    fn release(&mut self, phase: u32) {
        let phase = phase as usize;
        assert!(self.path_counts[phase] > 0, "a phase is released once");
        self.path_counts[phase] -= 1;
        self.first_free = self.first_free.min(phase);
        self.paths -= 1;
    }
}

fn capacity_of(phase: usize) -> u32 {
    if phase < SHARED_PHASES {
        PATHS_PER_SHARED_PHASE
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pathpulse_kernel_compat::Mono;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    fn next(timing: CheckTiming) -> Mono {
        timing.next_after(Mono::ZERO + Duration::from_secs(10))
    }

    fn distinct(timings: &[CheckTiming]) -> usize {
        timings
            .iter()
            .map(|timing| next(*timing))
            .collect::<BTreeSet<_>>()
            .len()
    }

    #[test]
    fn few_paths_share_wakeups() {
        for (paths, wakeups) in [(1, 1), (4, 1), (16, 1), (17, 2), (64, 4)] {
            let mut phases = Phases::default();
            let timings: Vec<CheckTiming> = (0..paths).map(|_| phases.assign(INTERVAL)).collect();
            assert_eq!(distinct(&timings), wakeups, "{paths} paths");
        }
    }

    #[test]
    fn shared_phases_are_far_apart() {
        let mut phases = Phases::default();
        let timings: Vec<CheckTiming> = (0..64).map(|_| phases.assign(INTERVAL)).collect();
        let times: BTreeSet<Mono> = timings.iter().map(|timing| next(*timing)).collect();
        let times: Vec<Mono> = times.into_iter().collect();
        for pair in times.windows(2) {
            assert!(pair[1].since(pair[0]) >= INTERVAL / 10, "{times:?}");
        }
    }

    #[test]
    fn many_paths_spread_over_the_interval() {
        let mut phases = Phases::default();
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            let timing = phases.assign(Duration::from_secs(10));
            let phase_ms = next(timing).as_nanos() / 1_000_000 % 10_000;
            tenths[(phase_ms / 1_000) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|tenth| (980..1_040).contains(tenth)),
            "{tenths:?}"
        );
    }

    #[test]
    fn a_released_phase_is_reused_and_no_other_path_moves() {
        let mut phases = Phases::default();
        let mut timings: Vec<CheckTiming> = (0..100).map(|_| phases.assign(INTERVAL)).collect();
        for round in 0..1_000 {
            let nth = round * 37 % 100;
            phases.release(INTERVAL, timings[nth]);
            let again = phases.assign(INTERVAL);
            assert_eq!(again, timings[nth], "the only phase with room");
            timings[nth] = again;
        }
        for timing in timings.drain(4..) {
            phases.release(INTERVAL, timing);
        }
        assert_eq!(phases.paths(), 4);
        assert_eq!(distinct(&timings), 1);
    }

    #[test]
    fn each_interval_has_its_own_phases() {
        let mut phases = Phases::default();
        let one = phases.assign(INTERVAL);
        let other = phases.assign(INTERVAL * 2);
        assert_eq!((one.phase(), other.phase()), (0, 0));
        phases.release(INTERVAL * 2, other);
        assert_eq!(phases.paths(), 1);
    }
}
