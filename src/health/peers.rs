//! What the paths of a group make of each other (pure: no clock, no I/O).
//!
//! Two things can only be told by comparison. A path is *slow* when its median latency is more than
//! [`Rules::marginal_latency`] times that of its peers, and above a floor. And a group of which any path
//! works shows one that is up: of paths that are all marginal one is *kept_up*, so that nobody who
//! takes marginal paths out of use takes the last one.
//!
//! Both are worked out after all completions of a turn were applied, so that the order in which
//! they came decides nothing.

use crate::health::{Rules, State};

/// Members of a group that are compared with each other; larger groups are compared by their first.
pub(crate) const COMPARED: usize = 64;

/// A path as its peers see it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Taken for itself.
    pub(crate) state: State,
    /// Whether it was kept_up so far.
    pub(crate) kept_up: bool,
    /// Bad verdicts among its last hundred.
    pub(crate) errors: u32,
}

/// Which of them is kept_up, if any: none while one is up; else the marginal one that was kept_up already,
/// or that fails least, or that comes first.
pub(crate) fn kept_up(peers: impl Iterator<Item = Peer>) -> Option<usize> {
    let mut best: Option<((bool, u32), usize)> = None;
    for (place, peer) in peers.enumerate() {
        match peer.state {
            State::Up => return None,
            State::Marginal => {
                let rank = (!peer.kept_up, peer.errors);
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, place));
                }
            }
            _ => {}
        }
    }
    best.map(|(_, place)| place)
}

/// Whether a path of this median is slow among medians, its own among them, which are sorted.
pub(crate) fn is_slow(mine_us: u64, sorted_us: &[u64], rules: &Rules) -> bool {
    let Some(theirs_us) = median_of_others(mine_us, sorted_us) else {
        return false;
    };
    rules.marginal_latency > 0
        && u128::from(mine_us) > rules.marginal_latency_floor.as_micros()
        && mine_us > theirs_us.saturating_mul(u64::from(rules.marginal_latency))
}

/// The median of the others; of two in the middle the slower one.
pub(crate) fn median_of_others(mine_us: u64, sorted_us: &[u64]) -> Option<u64> {
    let others = sorted_us.len().checked_sub(1)?;
    let own = sorted_us.partition_point(|us| *us < mine_us);
    let middle = others / 2;
    let place = if middle < own { middle } else { middle + 1 };
    sorted_us.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(state: State, kept_up: bool, errors: u32) -> Peer {
        Peer {
            state,
            kept_up,
            errors,
        }
    }

    #[test]
    fn a_group_that_works_always_shows_one_that_is_up() {
        let states = State::ALL;
        for a in states {
            for b in states {
                for c in states {
                    let group = [a, b, c];
                    let kept_up = kept_up(group.iter().map(|state| peer(*state, false, 0)));
                    let up = group.contains(&State::Up);
                    let first = group.iter().position(|state| *state == State::Marginal);
                    assert_eq!(kept_up, if up { None } else { first }, "{group:?}");
                }
            }
        }
    }

    #[test]
    fn who_was_spared_stays_so_and_else_who_fails_least() {
        use State::{Down, Marginal};
        let fewest = [
            peer(Down, false, 0),
            peer(Marginal, false, 20),
            peer(Marginal, false, 12),
            peer(Marginal, false, 12),
        ];
        assert_eq!(kept_up(fewest.into_iter()), Some(2));
        let mut kept = fewest;
        kept[1].kept_up = true;
        assert_eq!(kept_up(kept.into_iter()), Some(1));
    }

    #[test]
    fn the_median_of_the_others_is_theirs() {
        for len in 0..8u64 {
            let sorted: Vec<u64> = (0..len).map(|nth| nth * 10).collect();
            for mine in &sorted {
                let others: Vec<u64> = sorted.iter().copied().filter(|us| us != mine).collect();
                let expected = others.get(others.len() / 2).copied();
                assert_eq!(median_of_others(*mine, &sorted), expected);
            }
        }
        assert_eq!(median_of_others(5, &[5, 5, 5]), Some(5));
    }

    #[test]
    fn slow_is_what_is_much_slower_than_the_others_and_slow_at_all() {
        let rules = Rules {
            marginal_latency: 5,
            marginal_latency_floor: Duration::from_millis(5),
            ..Rules::default()
        };
        assert!(is_slow(40_000, &[900, 1_000, 40_000], &rules));
        assert!(!is_slow(5_000, &[900, 1_000, 5_000], &rules), "the floor");
        assert!(!is_slow(40_000, &[9_000, 40_000], &rules), "not five times");
        assert!(!is_slow(40_000, &[40_000], &rules), "no peers");
        let off = Rules {
            marginal_latency: 0,
            ..rules
        };
        assert!(!is_slow(40_000, &[900, 1_000, 40_000], &off));
    }
}
