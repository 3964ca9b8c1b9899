//! The health of a path as words, with which another reader continues.

use pathpulse_kernel_compat::Mono;

use super::packed::{pack, unpack};
use super::state_machine::{FALLS, Health};
use crate::health::{Cause, State};

/// Number of words of a saved health.
pub(crate) const SAVED_WORDS: usize = 7 + FALLS;

/// The path is slow.
const SLOW: u64 = 1 << 32;
/// It is shown as up, because no peer is up.
const KEPT_UP: u64 = 1 << 33;

/// What is known of the health of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved(pub(crate) [u64; SAVED_WORDS]);

impl Saved {
    /// A health of which only the state and its cause are known, as of `now`.
    pub(crate) fn of_state(state: State, cause: Cause, now: Mono) -> Saved {
        let health = match cause {
            // Which impairment it had is not known any more.
            Cause::LastUsable => Health {
                state: State::Marginal,
                cause: Cause::ErrorRate,
                ..Health::default()
            },
            cause => Health {
                state,
                cause,
                ..Health::default()
            },
        };
        let kept_up = cause == Cause::LastUsable;
        let (since, last_impairment) = (now, now);
        Saved::of(
            &Health {
                since,
                last_impairment,
                ..health
            },
            kept_up,
        )
    }

    /// The health of a path, and whether it is kept up.
    pub(crate) fn of(health: &Health, kept_up: bool) -> Saved {
        let mut words = [0; SAVED_WORDS];
        words[0] = pack(health.state, health.cause);
        words[0] |= if health.slow { SLOW } else { 0 } | if kept_up { KEPT_UP } else { 0 };
        words[1] = u64::from(health.good_in_a_row) | u64::from(health.bad_in_a_row) << 32;
        [words[2], words[3]] = health.window;
        words[4] = health.since.as_nanos();
        words[5] = health.last_impairment.as_nanos();
        words[6] = u64::from(health.fallen);
        for (word, fall) in words[7..]
            .iter_mut()
            .zip(health.falls.iter().flat_map(|falls| falls.iter()))
        {
            *word = fall.as_nanos();
        }
        Saved(words)
    }

    /// The health to continue with, and whether the path is kept up.
    pub(crate) fn restore(&self) -> (Health, bool) {
        let Saved(words) = self;
        let (state, cause) = unpack(words[0]);
        let fallen = words[6] as u32;
        let falls = std::array::from_fn(|nth| Mono::from_nanos(words[7 + nth]));
        let health = Health {
            state,
            cause,
            since: Mono::from_nanos(words[4]),
            good_in_a_row: words[1] as u32,
            bad_in_a_row: (words[1] >> 32) as u32,
            window: [words[2], words[3]],
            last_impairment: Mono::from_nanos(words[5]),
            slow: words[0] & SLOW != 0,
            falls: (fallen > 0).then(|| Box::new(falls)),
            fallen,
        };
        (health, words[0] & KEPT_UP != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Rules, Verdict};
    use pathpulse_kernel_compat::Errno;
    use std::time::Duration;

    /// A restored health does what the original does, wherever it was saved.
    #[test]
    fn a_restored_health_continues_as_the_original() {
        let rules = Rules {
            fall: 2,
            ..Rules::default()
        };
        let good = Verdict::Good {
            latency: Duration::from_millis(1),
        };
        let bad = Verdict::Failed { errno: Errno::EIO };
        let mut original = Health::default();
        let mut restored = original.clone();
        for step in 0u64..2_000 {
            let now = Mono::from_nanos((step + 1) * 700_000_000);
            // Bits of a Weyl sequence: runs of both verdicts, of many lengths.
            let verdict = match step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 {
                0 => bad,
                _ if step % 400 > 300 || step % 50 < 3 => bad,
                _ => good,
            };
            let expected = original.apply(&verdict, now, &rules);
            assert_eq!(restored.apply(&verdict, now, &rules), expected, "{step}");
            let kept_up = step % 3 == 0;
            let saved = Saved::of(&restored, kept_up);
            let (next, was_kept_up) = saved.restore();
            assert_eq!(was_kept_up, kept_up);
            assert_eq!(Saved::of(&next, kept_up), saved);
            restored = next;
        }
        assert!(original.fallen > FALLS as u32, "too few falls");
    }
}
