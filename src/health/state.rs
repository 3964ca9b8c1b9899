//! From verdicts to states (pure: no clock, no I/O).
//!
//! | state | means | entered when | left when |
//! |---|---|---|---|
//! | `Pending` | no verdict yet | the path is added or resumed | the first verdict that says something |
//! | `Up` | it works | good from `Pending`, `Standby`; `rise` good in a row from `Down`; from `Marginal` when clean for `recovery` | as below |
//! | `Marginal` | it works, but not well | as `Up`, while a impairment is there; from `Up` when one appears | clean for `recovery` |
//! | `Standby` | its target serves no reads here, by design | a `Standby` verdict | the next other verdict |
//! | `Down` | it does not work | `fall` bad in a row from any state but `Paused` | as above |
//! | `Paused` | it is not checked | a person said so | a person said so |
//!
//! `Good` is a good verdict, and so is a reservation conflict (`EBADE`): the target answered over this
//! path, and refuses this host by the will of whoever reserved the storage. `Busy` (the device completes
//! what others ask of it, and let no read of ours in) keeps up what is up: it changes nothing and
//! interrupts no row, since a device that fails all it is given completes requests, too. So it brings
//! no path up, and none down. `Unknown` is about ourselves: it changes nothing either. All others
//! but `Standby` are bad.
//!
//! The impairments, in the order in which they are looked for: it *flaps* (went down more than `flaps` times
//! within `flap_window`), it *fails* (more than `marginal_errors_per_mille` of its last hundred verdicts
//! were bad), it is *slow* (see `health/peers.rs`). They count for a good verdict that comes within `recovery`
//! of the last bad one, or while it is slow. The last path of a group that works is shown as `Up` whatever
//! its impairments are (`health/peers.rs`).
//!
//! | cause | of the states | says |
//! |---|---|---|
//! | `good`, `busy`, `reservation_conflict` | `Up` | the verdict |
//! | `error_rate`, `flapping`, `slow` | `Marginal` | the impairment |
//! | `last_usable` | `Up` | it has a impairment, and no peer is up |
//! | `device_gone`, `io_error`, `medium_error`, `target_error`, `transport_error`, `failed` | `Down` | the class of the errno (`health/fault.rs`) |
//! | `device_gone` | `Down` | also: the read gave 0 bytes, and the device has no size any more |
//! | `timed_out`, `saturated`, `short_read`, `offline` | `Down` | the verdict |
//! | `standby` | `Standby` | the verdict |
//! | `not_checked`, `command` | `Pending`, `Paused` | nothing was asked yet; a person said so |
//! | `late_answer` | none: an event only | a stuck read ended after all |
//! | `leads_elsewhere` | none: an event only | its name leads to something that is not watched by it |
//!
//! While a read is stuck the path is not read again. Each check that is due then is `TimedOut` too,
//! until the path is `Down`; from there on nothing new can be said before the kernel gives the stuck
//! read back.
//!
//! The kernel's states of SCSI and NVMe devices (sysfs `state`, see `device/sysfs.rs`) lead to verdicts so:
//! `offline`, `transport-offline`, `dead`, `deleted`, `deleting`, `cancel` are `Offline`, without a
//! read. In `blocked`, `quiesce`, `resetting` and `connecting` the kernel holds I/O back for a while:
//! the path is read as ever, and is bad exactly when that lasts longer than the timeout.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono};

use crate::health::{Fault, Verdict, VerdictKind};

/// Falls that are remembered: the upper limit of [`Rules::flaps`].
const FALLS: usize = 8;
/// Verdicts over which the error rate is taken.
const WINDOW: u32 = 100;
/// Of the time that a path has been down, this part passes between its checks.
const BACKOFF_SHARE: u32 = 32;

/// What the verdicts of a path add up to. The module's table says how states change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// No verdict yet.
    #[default]
    Pending,
    /// Works.
    Up,
    /// Works, but fails too often or answers too slowly.
    Marginal,
    /// Serves no reads, by the target's design.
    Standby,
    /// Does not work.
    Down,
    /// Is not checked, because a person said so.
    Paused,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Up,
        State::Marginal,
        State::Standby,
        State::Down,
        State::Paused,
    ];

    /// The name in the tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Up => "up",
            State::Marginal => "marginal",
            State::Standby => "standby",
            State::Down => "down",
            State::Paused => "paused",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why a path is in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// No verdict yet.
    #[default]
    NotChecked,
    /// A verdict of this kind, with its errno.
    Verdict(VerdictKind, Option<Errno>),
    /// Too many bad verdicts among the last ones.
    ErrorRate,
    /// Went down too often lately.
    Flapping,
    /// Answers much more slowly than its peers.
    Slow,
    /// Has one of the impairments above, and no peer of it is up.
    LastUsable,
    /// A person said so.
    Command,
    /// A read that was stuck ended after all. Causes an event, never a state.
    LateAnswer,
    /// Its name leads to something else by now that is not watched by it. Causes an event, never a state.
    LeadsElsewhere,
}

impl Cause {
    /// The name in the tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::NotChecked => "not_checked",
            Cause::Verdict(VerdictKind::Failed, Some(errno)) => Fault::from(errno).name(),
            Cause::Verdict(kind, _) => kind.name(),
            Cause::ErrorRate => "error_rate",
            Cause::Flapping => "flapping",
            Cause::Slow => "slow",
            Cause::LastUsable => "last_usable",
            Cause::Command => "command",
            Cause::LateAnswer => "late_answer",
            Cause::LeadsElsewhere => "leads_elsewhere",
        }
    }

    /// The errno behind it.
    pub fn errno(self) -> Option<Errno> {
        match self {
            Cause::Verdict(_, errno) => errno,
            _ => None,
        }
    }
}

impl From<&Verdict> for Cause {
    fn from(verdict: &Verdict) -> Cause {
        Cause::Verdict(verdict.kind(), verdict.errno())
    }
}

/// How verdicts become states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bad verdicts in a row that make a path `Down`; at least 1.
    pub fall: u32,
    /// Good verdicts in a row that bring it back; at least 1.
    pub rise: u32,
    /// More bad verdicts than this, per mille of the last hundred, make it `Marginal`. 1000 switches
    /// the rule off.
    pub marginal_errors_per_mille: u32,
    /// More falls than this within `flap_window` make it `Marginal` when it comes back; at most 7.
    /// 0 switches the rule off.
    pub flaps: u32,
    /// See `flaps`.
    pub flap_window: Duration,
    /// A median latency of more than so many times that of its peers makes it `Marginal`. 0 switches
    /// the rule off.
    pub marginal_latency: u32,
    /// What answers within this is never too slow, however fast its peers are.
    pub marginal_latency_floor: Duration,
    /// How long a `Marginal` path has to go without a bad verdict, and without being slow, to be `Up`.
    pub recovery: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            fall: 1,
            rise: 2,
            marginal_errors_per_mille: 100,
            flaps: 3,
            flap_window: Duration::from_secs(300),
            marginal_latency: 5,
            marginal_latency_floor: Duration::from_millis(5),
            recovery: Duration::from_secs(60),
        }
    }
}

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

/// How a verdict counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Good,
    /// Keeps up what is up, and changes nothing else.
    Keeps,
    Bad,
    Standby,
    Nothing,
}

fn weigh(verdict: &Verdict) -> Weight {
    match verdict {
        Verdict::Good { .. } => Weight::Good,
        // The target answered: it serves another host, by the will of whoever reserved it.
        Verdict::Failed { errno } if *errno == Errno::EBADE => Weight::Good,
        Verdict::Busy => Weight::Keeps,
        Verdict::Standby => Weight::Standby,
        Verdict::Unknown { .. } => Weight::Nothing,
        Verdict::Failed { .. }
        | Verdict::ShortRead { .. }
        | Verdict::TimedOut { .. }
        | Verdict::Saturated(_)
        | Verdict::Offline => Weight::Bad,
    }
}

/// The health of one path, taken for itself: what its peers make of it is in `health/peers.rs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    state: State,
    cause: Cause,
    /// When it entered this state.
    since: Mono,
    good_in_a_row: u32,
    bad_in_a_row: u32,
    /// The last verdicts, the latest in the lowest bit; 1 is bad. In two halves, the lower one first:
    /// there is one of these for each path, and none is to have gaps for the sake of this.
    window: [u64; 2],
    /// The last bad verdict, or the last time that it was found slow.
    last_impairment: Mono,
    slow: bool,
    /// The last falls; most paths have none.
    falls: Option<Box<[Mono; FALLS]>>,
    fallen: u32,
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

    /// Whether it is suspicious: about to change, or marginal. The next verdict matters soon.
    pub(crate) fn is_suspicious(&self) -> bool {
        match self.state {
            State::Down => self.good_in_a_row > 0,
            State::Marginal => true,
            State::Paused => false,
            _ => self.bad_in_a_row > 0,
        }
    }

    /// How much longer than usual the next check may wait: a path that is down for long is asked less
    /// often.
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
        self.seen().count_ones()
    }

    /// Takes a verdict in; `None` if the state stays.
    pub(crate) fn apply(
        &mut self,
        verdict: &Verdict,
        now: Mono,
        rules: &Rules,
    ) -> Option<Transition> {
        if self.state == State::Paused {
            return None;
        }
        match weigh(verdict) {
            Weight::Nothing => None,
            Weight::Keeps => {
                if self.state == State::Up {
                    self.cause = verdict.into();
                }
                None
            }
            Weight::Standby => {
                self.good_in_a_row = 0;
                self.bad_in_a_row = 0;
                self.enter(State::Standby, verdict.into(), now)
            }
            Weight::Good => self.good(verdict, now, rules),
            Weight::Bad => self.bad(verdict, now, rules),
        }
    }

    /// Takes in how its latency compares to its peers'; `None` if the state stays.
    pub(crate) fn compare(&mut self, slow: bool, now: Mono) -> Option<Transition> {
        self.slow = slow && matches!(self.state, State::Up | State::Marginal);
        if !self.slow {
            return None;
        }
        self.last_impairment = now;
        match self.state {
            State::Up => self.enter(State::Marginal, Cause::Slow, now),
            _ => None,
        }
    }

    /// Stops or resumes the judgement of the path. A resumed path begins anew.
    pub(crate) fn pause(&mut self, paused: bool, now: Mono) -> Option<Transition> {
        match (paused, self.state) {
            (true, State::Paused) => None,
            (true, _) => self.enter(State::Paused, Cause::Command, now),
            (false, State::Paused) => {
                let transition = self.enter(State::Pending, Cause::Command, now);
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
        if self.state == State::Up && self.seen() == 0 {
            // The usual case: nothing bad for long, and one more good verdict changes nothing.
            self.cause = verdict.into();
            return None;
        }
        self.note(false);
        self.bad_in_a_row = 0;
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        if self.state == State::Down && self.good_in_a_row < rules.rise {
            return None;
        }
        match self.impairment(now, rules) {
            None if self.state == State::Marginal && !self.is_clean(now, rules) => None,
            None => self.enter(State::Up, verdict.into(), now),
            Some(_) if self.state == State::Marginal => None,
            Some(impairment) => self.enter(State::Marginal, impairment, now),
        }
    }

    fn is_clean(&self, now: Mono, rules: &Rules) -> bool {
        !self.slow && now.since(self.last_impairment) >= rules.recovery
    }

    /// What is wrong with a path that works.
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
        self.note(true);
        self.last_impairment = now;
        self.good_in_a_row = 0;
        self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
        if self.state == State::Down {
            // The same state for another reason is no change, but the reason is kept current.
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
        self.enter(State::Down, verdict.into(), now)
    }

    fn enter(&mut self, to: State, cause: Cause, now: Mono) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.cause = cause;
        if from == to {
            // `Up` stays `Up` for another reason.
            return None;
        }
        self.since = now;
        Some(Transition { from, to, cause })
    }

    fn note(&mut self, bad: bool) {
        const SEEN: u128 = (1 << WINDOW) - 1;
        let seen = ((self.seen() << 1) | u128::from(bad)) & SEEN;
        self.window = [seen as u64, (seen >> 64) as u64];
    }

    fn seen(&self) -> u128 {
        (u128::from(self.window[1]) << 64) | u128::from(self.window[0])
    }

    /// Bad verdicts among the last [`WINDOW`], as if all unseen ones were good.
    fn errors_per_mille(&self) -> u32 {
        self.errors() * 1000 / WINDOW
    }

    /// Falls within this window before now, as far as they are remembered.
    pub(crate) fn falls_since(&self, now: Mono, window: Duration) -> u32 {
        let known = FALLS.min(self.fallen as usize);
        let falls = self.falls.iter().flat_map(|falls| &falls[..known]);
        falls.filter(|fall| now.since(**fall) <= window).count() as u32
    }
}

#[cfg(test)]
mod tests;
