//! What was really done to one disk, and when (pure).

use std::collections::VecDeque;
use std::time::Duration;

use crate::fault::{Answers, Effect, Fault};
use crate::terms::{At, Terms};

/// Phases that are remembered: more than there are within any limit.
const REMEMBERED: usize = 64;

/// A disk does one thing for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) fault: Fault,
    pub(crate) effect: Effect,
    /// Before the disk was told.
    pub(crate) from: At,
    /// After it had obeyed; `None` before.
    pub(crate) sure: Option<At>,
    /// When its successor was sure; `None` as long as it may go on.
    pub(crate) last: Option<At>,
    /// It hung for a while before it obeyed.
    hung_first: bool,
}

impl Phase {
    fn new(fault: Fault, from: At, terms: &Terms) -> Phase {
        Phase {
            fault,
            effect: fault.effect(terms),
            from,
            sure: None,
            last: None,
            hung_first: false,
        }
    }

    /// Whether the disk may have done this at `at`, or until `after` before.
    fn reaches(&self, at: At, after: Duration) -> bool {
        self.from <= at && self.last.is_none_or(|last| last + after >= at)
    }

    fn can_cause(&self, cause: &str, errno: Option<&str>) -> bool {
        // A busy disk that took too long to become so was a dead one meanwhile.
        let was_dead = self.hung_first && Fault::Dead.can_cause(cause, errno);
        was_dead || self.fault.can_cause(cause, errno)
    }
}

/// The latest phases of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    phases: VecDeque<Phase>,
    /// When the last check may have been bad.
    last_bad: Option<At>,
    /// When the machine did not get on.
    stalls: VecDeque<(At, At)>,
}

impl Truth {
    /// A disk that works, from the beginning on.
    pub(crate) fn new(terms: &Terms) -> Truth {
        let first = Phase {
            sure: Some(At::ZERO),
            ..Phase::new(Fault::None, At::ZERO, terms)
        };
        Truth {
            phases: VecDeque::from([first]),
            last_bad: None,
            stalls: VecDeque::new(),
        }
    }

    /// The disk is told to do this.
    pub(crate) fn begin(&mut self, fault: Fault, at: At, terms: &Terms) {
        if self.phases.len() == REMEMBERED {
            self.phases.pop_front();
        }
        self.phases.push_back(Phase::new(fault, at, terms));
    }

    /// It has obeyed all that it was told.
    pub(crate) fn obeyed(&mut self, at: At, terms: &Terms) {
        for phase in self.phases.iter_mut().filter(|phase| phase.sure.is_none()) {
            phase.sure = Some(at);
            // All of its tags are taken while it hangs. What got in then is answered after the rest.
            let held = at - phase.from + phase.effect.linger;
            if matches!(phase.fault, Fault::Busy(_) | Fault::Failing(_)) && held > terms.timeout / 2
            {
                phase.hung_first = true;
                phase.effect.linger = held;
            }
        }
        let current = self.phases.len() - 1;
        for phase in self.phases.iter_mut().take(current) {
            if phase.last.is_none() {
                phase.last = Some(at);
                if phase.effect.answers != Answers::Good {
                    let end = at + phase.fault.aftermath(terms);
                    self.last_bad = self.last_bad.max(Some(end));
                }
            }
        }
    }

    /// The machine did not get on between these.
    pub(crate) fn stalled(&mut self, from: At, to: At) {
        if self.stalls.len() == REMEMBERED {
            self.stalls.pop_front();
        }
        self.stalls.push_back((from, to));
    }

    /// A limit that began to run at `since`, put off by as long as the machine did not get on.
    pub(crate) fn put_off(&self, since: At, mut limit: At) -> At {
        for (from, to) in &self.stalls {
            if *to >= since && *from <= limit {
                limit += *to - *from;
            }
        }
        limit
    }

    /// What the machine may have added to what was seen at `at`.
    pub(crate) fn tolerance(&self, at: At, terms: &Terms) -> Duration {
        let since = at.saturating_sub((terms.interval + terms.timeout) * 2);
        self.put_off(since, at) - at + terms.tolerance
    }

    /// Whether the machine may have kept a good check from being in time.
    fn was_kept(&self, at: At, terms: &Terms) -> bool {
        let since = at.saturating_sub(terms.timeout * 2);
        let stalled = self.put_off(since, at) - at;
        // A busy disk takes its whole timeout only where that is no fault.
        let answered = |phase: &Phase| match phase.fault {
            Fault::Busy(_) => phase.effect.linger,
            _ => phase.effect.latency,
        };
        let recent = self.phases.iter();
        let recent = recent.filter(|phase| phase.reaches(at, terms.timeout));
        let latency = recent.map(answered).max().unwrap_or_default();
        !stalled.is_zero() && stalled + latency >= terms.timeout * 3 / 4
    }

    /// What it does now; `None` while it is being told.
    pub(crate) fn current(&self) -> Option<&Phase> {
        self.phases.back().filter(|phase| phase.sure.is_some())
    }

    /// When the last check may have been bad, as far as phases go that are over.
    pub(crate) fn last_bad(&self) -> Option<At> {
        self.last_bad
    }

    /// Since when every check is bad, or good, as now; nothing while that is not sure.
    pub(crate) fn since(&self) -> Option<(Answers, At)> {
        let answers = self.current()?.effect.answers;
        let same = self.phases.iter().rev();
        let first = same
            .take_while(|phase| phase.effect.answers == answers)
            .last()?;
        Some((answers, first.sure?))
    }

    /// Since when it is being told, or does, what lets no check succeed, and what that is.
    pub(crate) fn bad_since(&self) -> Option<(Fault, At)> {
        let bad = self.phases.iter().rev();
        let first = bad
            .take_while(|phase| phase.effect.answers == Answers::Bad)
            .last()?;
        Some((first.fault, first.sure.unwrap_or(first.from)))
    }

    /// Whether a check that was seen to end at `at` can have been good.
    pub(crate) fn can_be_good(&self, at: At, terms: &Terms) -> bool {
        let tolerance = self.tolerance(at, terms);
        self.phases.iter().any(|phase| {
            phase.effect.answers.may_be_good()
                && phase.reaches(at, phase.effect.latency + tolerance)
        })
    }

    /// Whether it can have been bad for this cause.
    pub(crate) fn can_be_bad(
        &self,
        at: At,
        cause: &str,
        errno: Option<&str>,
        terms: &Terms,
    ) -> bool {
        let tolerance = self.tolerance(at, terms);
        let kept = matches!(cause, "timed_out" | "saturated") && self.was_kept(at, terms);
        let mut phases = self.phases.iter();
        kept || phases.any(|phase| {
            phase.can_cause(cause, errno)
                && phase.reaches(at, phase.fault.aftermath(terms) + tolerance)
        })
    }

    /// Whether a stuck read can have ended at `at`.
    pub(crate) fn can_end_late(&self, at: At, terms: &Terms) -> bool {
        let tolerance = self.tolerance(at, terms);
        let mut phases = self.phases.iter();
        let sticks = phases.any(|phase| {
            phase.effect.sticks
                // A read may have been on its way to the disk for a moment.
                && phase.from + terms.timeout <= at + tolerance
                && phase.reaches(at, phase.effect.linger + tolerance)
        });
        sticks || self.was_kept(at, terms)
    }

    /// The longest that a check under way at `at` may take for what was before.
    pub(crate) fn latency_until(&self, at: At, terms: &Terms) -> Duration {
        let before = self.phases.iter().filter(|phase| {
            phase.sure.is_none_or(|sure| sure < at)
                && phase.effect.answers != Answers::Bad
                && phase.reaches(at, terms.timeout)
        });
        let latency = |phase: &Phase| phase.effect.latency.max(phase.effect.linger);
        before
            .map(latency)
            .max()
            .unwrap_or_default()
            .min(terms.timeout)
    }

    /// How long a read that is under way at `at` may take from its beginning, if it ends by itself.
    pub(crate) fn longest_linger(&self, at: At) -> Duration {
        let reaching = self
            .phases
            .iter()
            .filter(|phase| phase.reaches(at, phase.effect.linger));
        let longest = reaching.map(|phase| phase.effect.linger).max();
        longest.unwrap_or_default()
    }

    /// When the last read of a fault that is over is sure to have ended.
    pub(crate) fn lingers_until(&self, terms: &Terms) -> Option<At> {
        let over = self
            .phases
            .iter()
            .filter_map(|phase| Some((phase, phase.last?)));
        over.map(|(phase, last)| match phase.fault {
            Fault::Vanish => last + terms.reopen,
            _ => last + phase.effect.linger,
        })
        .max()
    }
}
