//! The actions on one disk and their times (pure).

use std::collections::VecDeque;
use std::time::Duration;

use crate::fault::{CheckOutcome, Effect, Fault};
use crate::limits::{At, Limits};

/// How many phases are kept: more than fit within any limit.
const MAX_PHASES: usize = 64;

/// A period in which a disk has one fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) fault: Fault,
    pub(crate) effect: Effect,
    /// Before the action started.
    pub(crate) from: At,
    /// After the action was done. `None` before.
    pub(crate) confirmed: Option<At>,
    /// When the next phase was confirmed. `None` while this phase may continue.
    pub(crate) ended: Option<At>,
    /// It hung for a while before the action was done.
    hung_first: bool,
}

impl Phase {
    fn new(fault: Fault, from: At, limits: &Limits) -> Phase {
        Phase {
            fault,
            effect: fault.effect(limits),
            from,
            confirmed: None,
            ended: None,
            hung_first: false,
        }
    }

    /// Whether the disk may have had this fault at `at`, or up to `after` before.
    fn overlaps(&self, at: At, after: Duration) -> bool {
        self.from <= at && self.ended.is_none_or(|ended| ended + after >= at)
    }

    fn can_cause(&self, cause: &str, errno: Option<&str>) -> bool {
        // A busy disk whose saturation took too long was dead in the meantime.
        let was_dead = self.hung_first && Fault::Dead.can_cause(cause, errno);
        was_dead || self.fault.can_cause(cause, errno)
    }
}

/// The latest phases of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    phases: VecDeque<Phase>,
    /// When the last check may have been bad.
    last_bad: Option<At>,
    /// When the machine stalled.
    stalls: VecDeque<(At, At)>,
}

impl Model {
    /// A disk that works from the beginning.
    pub(crate) fn new(limits: &Limits) -> Model {
        let first = Phase {
            confirmed: Some(At::ZERO),
            ..Phase::new(Fault::None, At::ZERO, limits)
        };
        Model {
            phases: VecDeque::from([first]),
            last_bad: None,
            stalls: VecDeque::new(),
        }
    }

    /// The disk gets this fault.
    pub(crate) fn begin(&mut self, fault: Fault, at: At, limits: &Limits) {
        if self.phases.len() == MAX_PHASES {
            self.phases.pop_front();
        }
        self.phases.push_back(Phase::new(fault, at, limits));
    }

    /// All started actions are done.
    pub(crate) fn action_done(&mut self, at: At, limits: &Limits) {
        for phase in self
            .phases
            .iter_mut()
            .filter(|phase| phase.confirmed.is_none())
        {
            phase.confirmed = Some(at);
            // The disk hangs while its tags are taken. A read that got in then is answered after
            // the others.
            let held = at - phase.from + phase.effect.linger;
            if matches!(phase.fault, Fault::Busy(_) | Fault::Failing(_))
                && held > limits.timeout / 2
            {
                phase.hung_first = true;
                phase.effect.linger = held;
            }
        }
        let current = self.phases.len() - 1;
        for phase in self.phases.iter_mut().take(current) {
            if phase.ended.is_none() {
                phase.ended = Some(at);
                if phase.effect.outcome != CheckOutcome::Good {
                    let end = at + phase.fault.aftermath(limits);
                    self.last_bad = self.last_bad.max(Some(end));
                }
            }
        }
    }

    /// The machine stalled between these times.
    pub(crate) fn stalled(&mut self, from: At, to: At) {
        if self.stalls.len() == MAX_PHASES {
            self.stalls.pop_front();
        }
        self.stalls.push_back((from, to));
    }

    /// Extends a limit that started at `since` by the stalls of the machine.
    pub(crate) fn extended_limit(&self, since: At, mut limit: At) -> At {
        for (from, to) in &self.stalls {
            if *to >= since && *from <= limit {
                limit += *to - *from;
            }
        }
        limit
    }

    /// The delay that the machine may have added to an observation at `at`.
    pub(crate) fn tolerance(&self, at: At, limits: &Limits) -> Duration {
        let since = at.saturating_sub((limits.interval + limits.timeout) * 2);
        self.extended_limit(since, at) - at + limits.tolerance
    }

    /// Whether the machine may have delayed a good check beyond its timeout.
    fn was_delayed(&self, at: At, limits: &Limits) -> bool {
        let since = at.saturating_sub(limits.timeout * 2);
        let stalled = self.extended_limit(since, at) - at;
        // A busy disk may use the whole timeout without a fault.
        let answered = |phase: &Phase| match phase.fault {
            Fault::Busy(_) => phase.effect.linger,
            _ => phase.effect.latency,
        };
        let recent = self.phases.iter();
        let recent = recent.filter(|phase| phase.overlaps(at, limits.timeout));
        let latency = recent.map(answered).max().unwrap_or_default();
        !stalled.is_zero() && stalled + latency >= limits.timeout * 3 / 4
    }

    /// The current phase. `None` while an action is being carried out.
    pub(crate) fn current(&self) -> Option<&Phase> {
        self.phases.back().filter(|phase| phase.confirmed.is_some())
    }

    /// When the last check of a finished phase may have been bad.
    pub(crate) fn last_bad(&self) -> Option<At> {
        self.last_bad
    }

    /// Whether all checks are now good, or bad, and since when. `None` while that is not certain.
    pub(crate) fn since(&self) -> Option<(CheckOutcome, At)> {
        let outcome = self.current()?.effect.outcome;
        let same = self.phases.iter().rev();
        let first = same
            .take_while(|phase| phase.effect.outcome == outcome)
            .last()?;
        Some((outcome, first.confirmed?))
    }

    /// The fault that currently lets no check succeed, and since when.
    pub(crate) fn bad_since(&self) -> Option<(Fault, At)> {
        let bad = self.phases.iter().rev();
        let first = bad
            .take_while(|phase| phase.effect.outcome == CheckOutcome::Bad)
            .last()?;
        Some((first.fault, first.confirmed.unwrap_or(first.from)))
    }

    /// Whether a check that ended at `at` can have been good.
    pub(crate) fn can_be_good(&self, at: At, limits: &Limits) -> bool {
        let tolerance = self.tolerance(at, limits);
        self.phases.iter().any(|phase| {
            phase.effect.outcome.may_be_good()
                && phase.overlaps(at, phase.effect.latency + tolerance)
        })
    }

    /// Whether a check can have been bad for this cause.
    pub(crate) fn can_be_bad(
        &self,
        at: At,
        cause: &str,
        errno: Option<&str>,
        limits: &Limits,
    ) -> bool {
        let tolerance = self.tolerance(at, limits);
        let delayed = matches!(cause, "timed_out" | "saturated") && self.was_delayed(at, limits);
        let mut phases = self.phases.iter();
        delayed
            || phases.any(|phase| {
                phase.can_cause(cause, errno)
                    && phase.overlaps(at, phase.fault.aftermath(limits) + tolerance)
            })
    }

    /// Whether a stuck read can have ended at `at`.
    pub(crate) fn can_end_late(&self, at: At, limits: &Limits) -> bool {
        let tolerance = self.tolerance(at, limits);
        let mut phases = self.phases.iter();
        let can_stick = phases.any(|phase| {
            phase.effect.can_stick
                // A read may have been on its way to the disk for a moment.
                && phase.from + limits.timeout <= at + tolerance
                && phase.overlaps(at, phase.effect.linger + tolerance)
        });
        can_stick || self.was_delayed(at, limits)
    }

    /// The longest time that a check running at `at` may take because of earlier phases.
    pub(crate) fn latency_until(&self, at: At, limits: &Limits) -> Duration {
        let before = self.phases.iter().filter(|phase| {
            phase.confirmed.is_none_or(|confirmed| confirmed < at)
                && phase.effect.outcome != CheckOutcome::Bad
                && phase.overlaps(at, limits.timeout)
        });
        let latency = |phase: &Phase| phase.effect.latency.max(phase.effect.linger);
        before
            .map(latency)
            .max()
            .unwrap_or_default()
            .min(limits.timeout)
    }

    /// How long a read in flight at `at` may take from its start, if it ends by itself.
    pub(crate) fn longest_linger(&self, at: At) -> Duration {
        let reaching = self
            .phases
            .iter()
            .filter(|phase| phase.overlaps(at, phase.effect.linger));
        let longest = reaching.map(|phase| phase.effect.linger).max();
        longest.unwrap_or_default()
    }

    /// When the last read of a finished fault has certainly ended.
    pub(crate) fn lingers_until(&self, limits: &Limits) -> Option<At> {
        let over = self
            .phases
            .iter()
            .filter_map(|phase| Some((phase, phase.ended?)));
        over.map(|(phase, last)| match phase.fault {
            Fault::Vanish => last + limits.reopen,
            _ => last + phase.effect.linger,
        })
        .max()
    }
}
