//! Decisions that need a comparison with the other paths of a group (pure: no clock, no I/O).
//!
//! A path is *slow* if its median latency exceeds a floor and is more than
//! [`Rules::marginal_latency`] times that of its peers. A group with a working path always shows a
//! path that is up: if all working paths are marginal, one of them is *kept up*. Whoever takes
//! marginal paths out of use then never takes the last one.
//!
//! The worker decides both after it has applied all completions of a loop, so that their order does
//! not matter.

use crate::health::{Rules, State};

/// Number of paths of a group that are compared; of a larger group the first ones are.
pub(crate) const COMPARED_MAX: usize = 64;

/// A path as seen by its peers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Its own state, without regard to its peers.
    pub(crate) state: State,
    /// Whether it has been kept up so far.
    pub(crate) kept_up: bool,
    /// Number of bad verdicts among its last hundred.
    pub(crate) errors: u32,
}

/// Chooses the path to keep up: none if a path is up; otherwise the marginal path that is kept up
/// already, or the one with the fewest errors, or the first one.
pub(crate) fn choose_kept_up(peers: impl Iterator<Item = Peer>) -> Option<usize> {
    let mut best: Option<((bool, u32), usize)> = None;
    for (index, peer) in peers.enumerate() {
        match peer.state {
            State::Up => return None,
            State::Marginal => {
                let rank = (!peer.kept_up, peer.errors);
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, index));
                }
            }
            _ => {}
        }
    }
    best.map(|(_, index)| index)
}

/// Whether a path with this median is slow. `sorted_us` has the medians of all, its own included.
pub(crate) fn is_slow(mine_us: u64, sorted_us: &[u64], rules: &Rules) -> bool {
    let Some(theirs_us) = median_of_others(mine_us, sorted_us) else {
        return false;
    };
    rules.marginal_latency > 0
        && u128::from(mine_us) > rules.marginal_latency_floor.as_micros()
        && mine_us > theirs_us.saturating_mul(u64::from(rules.marginal_latency))
}

/// The median of the other paths; of two in the middle, the slower one.
pub(crate) fn median_of_others(mine_us: u64, sorted_us: &[u64]) -> Option<u64> {
    let others = sorted_us.len().checked_sub(1)?;
    let own = sorted_us.partition_point(|us| *us < mine_us);
    let middle = others / 2;
    let index = if middle < own { middle } else { middle + 1 };
    sorted_us.get(index).copied()
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
                    let kept_up = choose_kept_up(group.iter().map(|state| peer(*state, false, 0)));
                    let up = group.contains(&State::Up);
                    let first = group.iter().position(|state| *state == State::Marginal);
                    assert_eq!(kept_up, if up { None } else { first }, "{group:?}");
                }
            }
        }
    }

    #[test]
    fn a_kept_up_path_stays_so_and_otherwise_fewest_errors_win() {
        use State::{Down, Marginal};
        let fewest = [
            peer(Down, false, 0),
            peer(Marginal, false, 20),
            peer(Marginal, false, 12),
            peer(Marginal, false, 12),
        ];
        assert_eq!(choose_kept_up(fewest.into_iter()), Some(2));
        let mut kept = fewest;
        kept[1].kept_up = true;
        assert_eq!(choose_kept_up(kept.into_iter()), Some(1));
    }

    #[test]
    fn the_median_of_the_others_excludes_the_own_value() {
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
    fn slow_means_far_slower_than_the_others_and_above_the_floor() {
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
