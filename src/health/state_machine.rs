//! Applies verdicts to the state of a path (pure: no clock, no I/O).
//!
//! `health/state.rs` has the tables that it follows.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono};

use crate::health::{Cause, Rules, State, Verdict};

/// Number of falls that are remembered; [`Rules::flaps`] must be smaller.
pub(super) const FALLS: usize = 8;
/// Number of verdicts in the error rate.
const WINDOW: u32 = 100;
/// The pause between checks of a path that is down is this fraction (1/32) of its time down.
const BACKOFF_SHARE: u32 = 32;

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// The state before.
    pub(crate) from: State,
    /// The state now.
    pub(crate) to: State,
    /// Why.
    pub(crate) cause: Cause,
}

/// The effect of a verdict on the state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Good,
    /// Keeps an `Up` path up, and changes nothing else.
    KeepsUp,
    Bad,
    Standby,
    None,
}

fn effect_of(verdict: &Verdict) -> Effect {
    match verdict {
        Verdict::Good { .. } => Effect::Good,
        // The target answered. It serves another host, which reserved the storage.
        Verdict::Failed { errno } if *errno == Errno::EBADE => Effect::Good,
        Verdict::Busy => Effect::KeepsUp,
        Verdict::Standby => Effect::Standby,
        Verdict::Unknown { .. } => Effect::None,
        Verdict::Failed { .. }
        | Verdict::ShortRead { .. }
        | Verdict::TimedOut { .. }
        | Verdict::Saturated(_)
        | Verdict::Offline => Effect::Bad,
    }
}

/// Health of one path without regard to its peers, which `health/peers.rs` compares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(super) state: State,
    pub(super) cause: Cause,
    /// When it entered this state.
    pub(super) since: Mono,
    pub(super) good_in_a_row: u32,
    pub(super) bad_in_a_row: u32,
    /// The last verdicts, the latest in the lowest bit; 1 is bad. Two words, the lower one first,
    /// instead of a `u128`: its alignment would waste memory, and there is one of these per path.
    pub(super) window: [u64; 2],
    /// When the last bad verdict came, or the path was last found slow.
    pub(super) last_impairment: Mono,
    pub(super) slow: bool,
    /// Times of the last falls; most paths have none.
    pub(super) falls: Option<Box<[Mono; FALLS]>>,
    pub(super) fallen: u32,
}

impl Health {
    /// The state now.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Why it is in that state.
    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether the path is marginal or about to change its state, so that the next verdict matters
    /// soon.
    pub(crate) fn is_suspicious(&self) -> bool {
        match self.state {
            State::Down => self.good_in_a_row > 0,
            State::Marginal => true,
            State::Paused => false,
            _ => self.bad_in_a_row > 0,
        }
    }

    /// Extra pause before the next check: a path that has been down for long is checked less often.
    pub(crate) fn backoff(&self, now: Mono, interval: Duration, most: Duration) -> Duration {
        if self.state != State::Down || self.good_in_a_row > 0 {
            return Duration::ZERO;
        }
        (now.since(self.since) / BACKOFF_SHARE)
            .min(most)
            .saturating_sub(interval)
    }

    /// Bad verdicts among the last hundred.
    pub(crate) fn errors(&self) -> u32 {
        self.window_bits().count_ones()
    }

    /// Applies a verdict. Returns `None` if the state stays.
    pub(crate) fn apply(
        &mut self,
        verdict: &Verdict,
        now: Mono,
        rules: &Rules,
    ) -> Option<Transition> {
        if self.state == State::Paused {
            return None;
        }
        match effect_of(verdict) {
            Effect::None => None,
            Effect::KeepsUp => {
                if self.state == State::Up {
                    self.cause = verdict.into();
                }
                None
            }
            Effect::Standby => {
                self.good_in_a_row = 0;
                self.bad_in_a_row = 0;
                self.change_state(State::Standby, verdict.into(), now)
            }
            Effect::Good => self.good(verdict, now, rules),
            Effect::Bad => self.bad(verdict, now, rules),
        }
    }

    /// Applies a comparison with the peers. Returns `None` if the state stays.
    pub(crate) fn set_slow(&mut self, slow: bool, now: Mono) -> Option<Transition> {
        self.slow = slow && matches!(self.state, State::Up | State::Marginal);
        if !self.slow {
            return None;
        }
        self.last_impairment = now;
        match self.state {
            State::Up => self.change_state(State::Marginal, Cause::Slow, now),
            _ => None,
        }
    }

    /// Pauses or resumes. A resumed path starts without a history.
    pub(crate) fn pause(&mut self, paused: bool, now: Mono) -> Option<Transition> {
        match (paused, self.state) {
            (true, State::Paused) => None,
            (true, _) => self.change_state(State::Paused, Cause::Command, now),
            (false, State::Paused) => {
                let transition = self.change_state(State::Pending, Cause::Command, now);
                *self = Health {
                    cause: Cause::Command,
                    since: now,
                    ..Health::default()
                };
                transition
            }
            (false, _) => None,
        }
    }

    fn good(&mut self, verdict: &Verdict, now: Mono, rules: &Rules) -> Option<Transition> {
        if self.state == State::Up && self.window_bits() == 0 {
            // The usual case: no bad verdict for long. One more good verdict changes nothing.
            self.cause = verdict.into();
            return None;
        }
        self.record(false);
        self.bad_in_a_row = 0;
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        if self.state == State::Down && self.good_in_a_row < rules.rise {
            return None;
        }
        match self.impairment(now, rules) {
            None if self.state == State::Marginal && !self.is_clean(now, rules) => None,
            None => self.change_state(State::Up, verdict.into(), now),
            Some(_) if self.state == State::Marginal => None,
            Some(impairment) => self.change_state(State::Marginal, impairment, now),
        }
    }

    fn is_clean(&self, now: Mono, rules: &Rules) -> bool {
        !self.slow && now.since(self.last_impairment) >= rules.recovery
    }

    /// The impairment of a working path, if there is one.
    fn impairment(&self, now: Mono, rules: &Rules) -> Option<Cause> {
        if self.is_clean(now, rules) {
            None
        } else if rules.flaps > 0 && self.falls_since(now, rules.flap_window) > rules.flaps {
            Some(Cause::Flapping)
        } else if self.errors_per_mille() > rules.marginal_errors_per_mille {
            Some(Cause::ErrorRate)
        } else {
            self.slow.then_some(Cause::Slow)
        }
    }

    fn bad(&mut self, verdict: &Verdict, now: Mono, rules: &Rules) -> Option<Transition> {
        self.record(true);
        self.last_impairment = now;
        self.good_in_a_row = 0;
        self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
        if self.state == State::Down {
            // The state stays, but the cause follows the latest verdict.
            self.cause = verdict.into();
            return None;
        }
        if self.bad_in_a_row < rules.fall {
            return None;
        }
        self.slow = false;
        if matches!(self.state, State::Up | State::Marginal) {
            let falls = self.falls.get_or_insert_default();
            falls[self.fallen as usize % FALLS] = now;
            self.fallen = self.fallen.wrapping_add(1);
        }
        self.change_state(State::Down, verdict.into(), now)
    }

    fn change_state(&mut self, to: State, cause: Cause, now: Mono) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.cause = cause;
        if from == to {
            // A new cause alone is no change of state.
            return None;
        }
        self.since = now;
        Some(Transition { from, to, cause })
    }

    fn record(&mut self, bad: bool) {
        const MASK: u128 = (1 << WINDOW) - 1;
        let bits = ((self.window_bits() << 1) | u128::from(bad)) & MASK;
        self.window = [bits as u64, (bits >> 64) as u64];
    }

    fn window_bits(&self) -> u128 {
        (u128::from(self.window[1]) << 64) | u128::from(self.window[0])
    }

    /// Share of bad verdicts among the last [`WINDOW`]; missing ones count as good.
    fn errors_per_mille(&self) -> u32 {
        self.errors() * 1000 / WINDOW
    }

    /// Number of falls within `window` before `now`, as far as they are remembered.
    pub(crate) fn falls_since(&self, now: Mono, window: Duration) -> u32 {
        let known = FALLS.min(self.fallen as usize);
        let falls = self.falls.iter().flat_map(|falls| &falls[..known]);
        falls.filter(|fall| now.since(**fall) <= window).count() as u32
    }
}

#[cfg(test)]
mod tests;
