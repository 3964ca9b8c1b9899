//! Where in the interval each path's checks lie (pure: no clock, no I/O).
//!
//! A wake-up costs more than a check. So the first paths of an interval share their places, some at
//! each: a host with four paths wakes up once an interval. What comes beyond that has places of its
//! own, so that thousands of checks spread evenly.

use std::collections::HashMap;
use std::time::Duration;

use crate::schedule::CheckTiming;

/// Places that paths share, and how many share one. 16 reads at a time are nothing to a host, and 64
/// paths, the most that a small one has, still spread over four places.
const SHARED_PLACES: usize = 4;
const PATHS_PER_SHARED_PLACE: u32 = 16;

/// The places of a worker's paths, for each of their intervals.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    intervals: HashMap<Duration, Places>,
}

/// The places of one interval.
#[derive(Debug, Default)]
struct Places {
    /// Paths at each.
    taken: Vec<u32>,
    /// No place before this one has room.
    lowest: usize,
    /// The sum of `taken`.
    paths: usize,
}

impl Phases {
    /// Gives a path the first place that has room. It keeps it, whatever other paths do, until it
    /// gives it back by [`Phases::leave`].
    pub(crate) fn enter(&mut self, interval: Duration) -> CheckTiming {
        let places = self.intervals.entry(interval).or_default();
        CheckTiming::new(interval, places.enter())
    }

    /// Takes the place back that [`Phases::enter`] gave for this interval.
    pub(crate) fn leave(&mut self, interval: Duration, timing: CheckTiming) {
        let Some(places) = self.intervals.get_mut(&interval) else {
            unreachable!("a path left an interval that has none");
        };
        places.leave(timing.place());
        if places.paths == 0 {
            self.intervals.remove(&interval);
        }
    }

    /// Paths that have a place.
    pub(crate) fn paths(&self) -> usize {
        self.intervals.values().map(|places| places.paths).sum()
    }
}

impl Places {
    fn enter(&mut self) -> u32 {
        let room = |place: &usize| {
            let taken = self.taken.get(*place).copied().unwrap_or(0);
            taken < room_at(*place)
        };
        let Some(place) = (self.lowest..=self.taken.len()).find(room) else {
            unreachable!("a new place has room");
        };
        if place == self.taken.len() {
            self.taken.push(0);
        }
        self.taken[place] += 1;
        self.lowest = place;
        self.paths += 1;
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn leave(&mut self, place: u32) {
        let place = place as usize;
        self.taken[place] -= 1;
        self.lowest = self.lowest.min(place);
        self.paths -= 1;
    }
}

fn room_at(place: usize) -> u32 {
    if place < SHARED_PLACES {
        PATHS_PER_SHARED_PLACE
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

    fn distinct(paces: &[CheckTiming]) -> usize {
        paces
            .iter()
            .map(|timing| next(*timing))
            .collect::<BTreeSet<_>>()
            .len()
    }

    #[test]
    fn few_paths_share_wakeups() {
        for (paths, wakeups) in [(1, 1), (4, 1), (16, 1), (17, 2), (64, 4)] {
            let mut phases = Phases::default();
            let paces: Vec<CheckTiming> = (0..paths).map(|_| phases.enter(INTERVAL)).collect();
            assert_eq!(distinct(&paces), wakeups, "{paths} paths");
        }
    }

    #[test]
    fn shared_places_lie_apart() {
        let mut phases = Phases::default();
        let paces: Vec<CheckTiming> = (0..64).map(|_| phases.enter(INTERVAL)).collect();
        let times: BTreeSet<Mono> = paces.iter().map(|timing| next(*timing)).collect();
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
            let timing = phases.enter(Duration::from_secs(10));
            let phase_ms = next(timing).as_nanos() / 1_000_000 % 10_000;
            tenths[(phase_ms / 1_000) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|tenth| (980..1_040).contains(tenth)),
            "{tenths:?}"
        );
    }

    #[test]
    fn a_place_that_was_left_is_given_again_and_nobody_else_moves() {
        let mut phases = Phases::default();
        let mut paces: Vec<CheckTiming> = (0..100).map(|_| phases.enter(INTERVAL)).collect();
        for round in 0..1_000 {
            let nth = round * 37 % 100;
            phases.leave(INTERVAL, paces[nth]);
            let again = phases.enter(INTERVAL);
            assert_eq!(again, paces[nth], "the only place with room");
            paces[nth] = again;
        }
        for timing in paces.drain(4..) {
            phases.leave(INTERVAL, timing);
        }
        assert_eq!(phases.paths(), 4);
        assert_eq!(distinct(&paces), 1);
    }

    #[test]
    fn intervals_have_places_of_their_own() {
        let mut phases = Phases::default();
        let one = phases.enter(INTERVAL);
        let other = phases.enter(INTERVAL * 2);
        assert_eq!((one.place(), other.place()), (0, 0));
        phases.leave(INTERVAL * 2, other);
        assert_eq!(phases.paths(), 1);
    }
}
