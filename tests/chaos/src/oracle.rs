//! Checks the daemon's events of one disk against the model (pure).

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::fault::{CheckOutcome, Fault};
use crate::limits::{At, Limits};
use crate::model::Model;

/// How many lines of a disk's history are kept.
const LINES: usize = 40;

/// An event of the daemon about a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EventMsg {
    /// The path.
    pub path: String,
    /// The previous state.
    pub from: String,
    /// The new state.
    pub to: String,
    /// The cause.
    pub cause: String,
    /// The errno, if there is one.
    pub errno: Option<String>,
    /// The time on the daemon's clock.
    pub time: String,
    /// Details.
    pub detail: String,
}

/// The result of checking an event, or the passage of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Violations.
    pub violations: Vec<String>,
    /// A fault was detected, this long after its injection.
    pub detected: Option<(&'static str, Duration)>,
    /// A disk was found healthy, this long after its recovery.
    pub recovered: Option<Duration>,
}

/// Checks the events of one disk.
#[derive(Clone, Debug)]
pub struct Oracle {
    limits: Limits,
    model: Model,
    state: String,
    /// When the daemon reported that it went down.
    falls: VecDeque<At>,
    /// A read is stuck, and its end must be reported.
    stuck: bool,
    /// When that must be reported at the latest.
    late_by: Option<At>,
    /// The overdue event was already reported as missing.
    overdue_reported: bool,
    history: VecDeque<String>,
}

impl Oracle {
    /// For a disk that works and has no events yet.
    pub fn new(limits: Limits) -> Oracle {
        Oracle {
            limits,
            model: Model::new(&limits),
            state: "pending".to_owned(),
            falls: VecDeque::new(),
            stuck: false,
            late_by: None,
            overdue_reported: false,
            history: VecDeque::new(),
        }
    }

    /// The latest actions and events of the disk, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &str> {
        self.history.iter().map(String::as_str)
    }

    /// The state according to the last event.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The disk is about to get this fault.
    pub fn begin(&mut self, fault: Fault, at: At) {
        self.record(at, &format!("fault: {fault:?}"));
        self.model.begin(fault, at, &self.limits);
        if fault == Fault::Vanish {
            self.stuck = false;
            self.late_by = None;
        }
    }

    /// The disk has carried out the action.
    pub fn action_done(&mut self, at: At) {
        self.record(at, "done");
        self.model.action_done(at, &self.limits);
        self.overdue_reported = false;
        if std::mem::take(&mut self.stuck) {
            self.late_by = Some(at + self.limits.tolerance);
        }
    }

    /// The machine stalled between these times, so nothing could be in time.
    pub fn stalled(&mut self, from: At, to: At) {
        self.record(to, &format!("stall: since {:.3}", from.as_secs_f64()));
        self.model.stalled(from, to);
    }

    /// Whether no more events are expected while the disk does not change.
    pub fn is_settled(&self) -> bool {
        self.model.current().is_some() && self.deadline().is_none() || self.overdue_reported
    }

    /// Checks an event of the daemon.
    pub fn observe_event(&mut self, event: &EventMsg, at: At) -> Finding {
        let EventMsg {
            from, to, cause, ..
        } = event;
        let errno = event.errno.as_deref().unwrap_or("");
        self.record(
            at,
            &format!(
                "event: {from} -> {to} ({cause} {errno}) {} [{}]",
                event.detail, event.time
            ),
        );
        let mut finding = Finding::default();
        if *from != self.state {
            let was = &self.state;
            let text = format!("its state was {was}, but the event says {from}");
            finding.violations.push(text);
        }
        let violation = match to.as_str() {
            _ if from == to => self.check_late(cause, at),
            "down" => self.check_down(event, at, &mut finding),
            "up" | "marginal" => self.check_working(to, at, &mut finding),
            _ => Some(format!("no fault leads to the state {to}")),
        };
        finding.violations.extend(violation);
        self.state.clone_from(to);
        finding
    }

    fn check_late(&mut self, cause: &str, at: At) -> Option<String> {
        if cause != "late_answer" {
            return Some("neither a change of state nor a late answer".to_owned());
        }
        self.stuck = false;
        self.late_by = None;
        let can = self.model.can_end_late(at, &self.limits);
        (!can).then(|| "no stuck read can have ended at this time".to_owned())
    }

    fn check_down(&mut self, event: &EventMsg, at: At, finding: &mut Finding) -> Option<String> {
        self.falls.push_back(at);
        if self.falls.len() > 16 {
            self.falls.pop_front();
        }
        let current = self.model.current();
        let since = self.model.bad_since();
        finding.detected = since.map(|(fault, since)| (fault.name(), at.saturating_sub(since)));
        if event.cause == "timed_out" {
            // The read may belong to an earlier fault, and end by itself.
            let linger = self.model.longest_linger(at);
            match current.map(|phase| phase.fault) {
                Some(Fault::Hang) if linger.is_zero() => self.stuck = true,
                Some(Fault::Late(_)) => self.late_by = Some(at + linger + self.limits.tolerance),
                _ => {}
            }
        }
        let errno = event.errno.as_deref();
        let can = self.model.can_be_bad(at, &event.cause, errno, &self.limits);
        (!can).then(|| "no fault explains this cause".to_owned())
    }

    fn check_working(&self, to: &str, at: At, finding: &mut Finding) -> Option<String> {
        if let Some((CheckOutcome::Good, since)) =
            self.model.since().filter(|_| self.state == "down")
        {
            let fell = self.falls.back().copied().unwrap_or(since);
            finding.recovered = Some(at.saturating_sub(since.max(fell)));
        }
        if !self.model.can_be_good(at, &self.limits) {
            return Some("no check can have been good".to_owned());
        }
        let tolerance = self.model.tolerance(at, &self.limits);
        let fell = self.falls.back();
        let clean_for = fell.map_or(Duration::MAX, |fall| at.saturating_sub(*fall));
        if to == "marginal" {
            let flapping = self.falls_within(at, self.limits.flap_window + tolerance);
            let too_often = self.limits.flaps > 0 && flapping > self.limits.flaps;
            let bad = self.model.last_bad().max(fell.copied());
            let clean = bad.is_none_or(|bad| at > bad + self.limits.recovery + tolerance);
            return (clean || !(too_often || self.limits.has_error_rate()))
                .then(|| "no flaps or errors explain the marginal state".to_owned());
        }
        let falls = self.falls_within(at, self.limits.flap_window.saturating_sub(tolerance));
        let flapping = self.limits.flaps > 0 && falls > self.limits.flaps;
        let must_wait = flapping || self.state == "marginal";
        let too_early = clean_for < self.limits.recovery.saturating_sub(tolerance);
        (must_wait && too_early).then(|| "it left the marginal state too early".to_owned())
    }

    fn falls_within(&self, at: At, window: Duration) -> u32 {
        let recent = self
            .falls
            .iter()
            .filter(|fall| at.saturating_sub(**fall) <= window);
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
    }

    /// Reports events that are missing at `now`, once each.
    pub fn check_overdue(&mut self, now: At) -> Finding {
        let mut finding = Finding::default();
        let late_by = self.late_by.map(|by| {
            let since = by.saturating_sub(self.limits.tolerance + self.limits.timeout * 3);
            self.model.extended_limit(since, by)
        });
        if let Some(by) = late_by.filter(|by| *by < now) {
            self.late_by = None;
            finding.violations.push(format!(
                "the end of its stuck read was not reported by {:.3}",
                by.as_secs_f64()
            ));
        }
        match self.required_state() {
            Some((want, by)) if by < now && !self.overdue_reported => {
                self.overdue_reported = true;
                finding.violations.push(format!(
                    "it was not {want} by {:.3}; its state is {}",
                    by.as_secs_f64(),
                    self.state
                ));
            }
            _ => {}
        }
        finding
    }

    /// When an event is required at the latest, if nothing changes.
    pub fn deadline(&self) -> Option<At> {
        // A marginal path may take long to be up again, so runs do not wait for that.
        let required = self
            .required_state()
            .filter(|(want, _)| *want != "up" && !self.overdue_reported);
        let required = required.map(|(_, by)| by);
        [required, self.late_by].into_iter().flatten().min()
    }

    /// The state that it must change to, and by when. `None` if it need not change.
    fn required_state(&self) -> Option<(&'static str, At)> {
        let (outcome, since) = self.model.since()?;
        let latency = self.model.current()?.effect.latency;
        let down = self.state == "down";
        match outcome {
            CheckOutcome::Either | CheckOutcome::KeptUp => None,
            CheckOutcome::Bad => (!down).then(|| {
                let before = self.model.latency_until(since, &self.limits);
                let limit = since + self.limits.detection_limit(before);
                ("down", self.model.extended_limit(since, limit))
            }),
            CheckOutcome::Good if down || self.state == "pending" => {
                let fell = self.falls.back().copied();
                let lingered = self.model.lingers_until(&self.limits);
                let base = since
                    .max(lingered.unwrap_or(since))
                    .max(fell.unwrap_or(since));
                let backoff = self.limits.backoff(base - fell.unwrap_or(base));
                let limit = base + backoff + self.limits.recovery_limit(latency);
                Some(("working", self.model.extended_limit(base, limit)))
            }
            CheckOutcome::Good if self.state == "marginal" => {
                let bad = self.model.last_bad().max(self.falls.back().copied())?;
                let base = bad.max(since);
                let limit = base + self.limits.marginal_limit(latency);
                Some(("up", self.model.extended_limit(base, limit)))
            }
            CheckOutcome::Good => None,
        }
    }

    fn record(&mut self, at: At, text: &str) {
        if self.history.len() == LINES {
            self.history.pop_front();
        }
        self.history
            .push_back(format!("{:10.3}  {text}", at.as_secs_f64()));
    }
}
