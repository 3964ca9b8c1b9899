//! Holds what the daemon says of one disk against the truth (pure).

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::fault::{Answers, Fault};
use crate::terms::{At, Terms};
use crate::truth::Truth;

/// Lines of a disk's history that are kept.
const LINES: usize = 40;

/// What the daemon says of a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Said {
    /// Which path.
    pub path: String,
    /// Its state before.
    pub from: String,
    /// Its state now.
    pub to: String,
    /// Why.
    pub cause: String,
    /// The errno behind it.
    pub errno: Option<String>,
    /// The daemon's clock.
    pub time: String,
    /// Particulars.
    pub detail: String,
}

/// What an event, or the time that passed, showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub wrong: Vec<String>,
    /// A fault was noticed so long after it was injected.
    pub detected: Option<(&'static str, Duration)>,
    /// A disk was found to be well so long after it was.
    pub recovered: Option<Duration>,
}

/// Judges what is said of one disk.
#[derive(Clone, Debug)]
pub struct Judge {
    terms: Terms,
    truth: Truth,
    state: String,
    /// When the daemon said that it went down.
    falls: VecDeque<At>,
    /// A read is stuck, and the end of it has to be told.
    stuck: bool,
    /// When that has to be told at the latest.
    late_by: Option<At>,
    /// What is overdue was complained of.
    complained: bool,
    history: VecDeque<String>,
}

impl Judge {
    /// Of a disk that works, and of which nothing was said yet.
    pub fn new(terms: Terms) -> Judge {
        Judge {
            terms,
            truth: Truth::new(&terms),
            state: "pending".to_owned(),
            falls: VecDeque::new(),
            stuck: false,
            late_by: None,
            complained: false,
            history: VecDeque::new(),
        }
    }

    /// The last that was done to the disk and said of it, the latest at the end.
    pub fn history(&self) -> impl Iterator<Item = &str> {
        self.history.iter().map(String::as_str)
    }

    /// The state that the daemon said last.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The disk is about to be told to do this.
    pub fn begin(&mut self, fault: Fault, at: At) {
        self.note(at, &format!("told:  {fault:?}"));
        self.truth.begin(fault, at, &self.terms);
        if fault == Fault::Vanish {
            self.stuck = false;
            self.late_by = None;
        }
    }

    /// The disk has obeyed.
    pub fn obeyed(&mut self, at: At) {
        self.note(at, "obeyed");
        self.truth.obeyed(at, &self.terms);
        self.complained = false;
        if std::mem::take(&mut self.stuck) {
            self.late_by = Some(at + self.terms.tolerance);
        }
    }

    /// The machine did not get on between these: nothing could be in time.
    pub fn stalled(&mut self, from: At, to: At) {
        self.note(to, &format!("stall: since {:.3}", from.as_secs_f64()));
        self.truth.stalled(from, to);
    }

    /// Whether nothing more is to come as long as the disk does what it does.
    pub fn is_settled(&self) -> bool {
        self.truth.current().is_some() && self.deadline().is_none() || self.complained
    }

    /// Takes in what the daemon said.
    pub fn hear(&mut self, said: &Said, at: At) -> Finding {
        let Said {
            from, to, cause, ..
        } = said;
        let errno = said.errno.as_deref().unwrap_or("");
        self.note(
            at,
            &format!(
                "said:  {from} -> {to} ({cause} {errno}) {} [{}]",
                said.detail, said.time
            ),
        );
        let mut finding = Finding::default();
        if *from != self.state {
            let was = &self.state;
            let text = format!("it was {was}, and the daemon says that it was {from}");
            finding.wrong.push(text);
        }
        let wrong = match to.as_str() {
            _ if from == to => self.hear_late(cause, at),
            "down" => self.hear_down(said, at, &mut finding),
            "up" | "marginal" => self.hear_working(to, at, &mut finding),
            _ => Some(format!("nothing here makes a disk {to}")),
        };
        finding.wrong.extend(wrong);
        self.state.clone_from(to);
        finding
    }

    fn hear_late(&mut self, cause: &str, at: At) -> Option<String> {
        if cause != "late_answer" {
            return Some("no change, and no late answer".to_owned());
        }
        self.stuck = false;
        self.late_by = None;
        let can = self.truth.can_end_late(at, &self.terms);
        (!can).then(|| "no stuck read can have ended now".to_owned())
    }

    fn hear_down(&mut self, said: &Said, at: At, finding: &mut Finding) -> Option<String> {
        self.falls.push_back(at);
        if self.falls.len() > 16 {
            self.falls.pop_front();
        }
        let current = self.truth.current();
        let since = self.truth.bad_since();
        finding.detected = since.map(|(fault, since)| (fault.name(), at.saturating_sub(since)));
        if said.cause == "timed_out" {
            // The read may be from a fault before, and end by itself.
            let linger = self.truth.longest_linger(at);
            match current.map(|phase| phase.fault) {
                Some(Fault::Hang) if linger.is_zero() => self.stuck = true,
                Some(Fault::Late(_)) => self.late_by = Some(at + linger + self.terms.tolerance),
                _ => {}
            }
        }
        let errno = said.errno.as_deref();
        let can = self.truth.can_be_bad(at, &said.cause, errno, &self.terms);
        (!can).then(|| "no fault gives it this cause to be down".to_owned())
    }

    fn hear_working(&self, to: &str, at: At, finding: &mut Finding) -> Option<String> {
        if let Some((Answers::Good, since)) = self.truth.since().filter(|_| self.state == "down") {
            let fell = self.falls.back().copied().unwrap_or(since);
            finding.recovered = Some(at.saturating_sub(since.max(fell)));
        }
        if !self.truth.can_be_good(at, &self.terms) {
            return Some("no check of it can have been good".to_owned());
        }
        let tolerance = self.truth.tolerance(at, &self.terms);
        let fell = self.falls.back();
        let clean_for = fell.map_or(Duration::MAX, |fall| at.saturating_sub(*fall));
        if to == "marginal" {
            let flapping = self.falls_within(at, self.terms.flap_window + tolerance);
            let too_often = self.terms.flaps > 0 && flapping > self.terms.flaps;
            let bad = self.truth.last_bad().max(fell.copied());
            let clean = bad.is_none_or(|bad| at > bad + self.terms.recovery + tolerance);
            return (clean || !(too_often || self.terms.has_error_rate()))
                .then(|| "it did nothing to be marginal for".to_owned());
        }
        let surely = self.falls_within(at, self.terms.flap_window.saturating_sub(tolerance));
        let flapping = self.terms.flaps > 0 && surely > self.terms.flaps;
        let must_wait = flapping || self.state == "marginal";
        let too_early = clean_for < self.terms.recovery.saturating_sub(tolerance);
        (must_wait && too_early).then(|| "it has to be marginal for longer".to_owned())
    }

    fn falls_within(&self, at: At, window: Duration) -> u32 {
        let recent = self
            .falls
            .iter()
            .filter(|fall| at.saturating_sub(**fall) <= window);
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
    }

    /// Says what should have been said before `now`, once.
    pub fn pass(&mut self, now: At) -> Finding {
        let mut finding = Finding::default();
        let late_by = self.late_by.map(|by| {
            let since = by.saturating_sub(self.terms.tolerance + self.terms.timeout * 3);
            self.truth.put_off(since, by)
        });
        if let Some(by) = late_by.filter(|by| *by < now) {
            self.late_by = None;
            finding.wrong.push(format!(
                "the end of its stuck read had to be told by {:.3}",
                by.as_secs_f64()
            ));
        }
        match self.wanted() {
            Some((want, by)) if by < now && !self.complained => {
                self.complained = true;
                finding.wrong.push(format!(
                    "it had to be {want} by {:.3}, and is {}",
                    by.as_secs_f64(),
                    self.state
                ));
            }
            _ => {}
        }
        finding
    }

    /// When something has to have been said, if nothing changes.
    pub fn deadline(&self) -> Option<At> {
        // A marginal path may take long to be up again: nobody waits for that.
        let wanted = self
            .wanted()
            .filter(|(want, _)| *want != "up" && !self.complained);
        let wanted = wanted.map(|(_, by)| by);
        [wanted, self.late_by].into_iter().flatten().min()
    }

    /// The state that it has to be in, if it is not in it, and by when.
    fn wanted(&self) -> Option<(&'static str, At)> {
        let (answers, since) = self.truth.since()?;
        let latency = self.truth.current()?.effect.latency;
        let down = self.state == "down";
        match answers {
            Answers::Either | Answers::Kept => None,
            Answers::Bad => (!down).then(|| {
                let before = self.truth.latency_until(since, &self.terms);
                let limit = since + self.terms.detection(before);
                ("down", self.truth.put_off(since, limit))
            }),
            Answers::Good if down || self.state == "pending" => {
                let fell = self.falls.back().copied();
                let lingered = self.truth.lingers_until(&self.terms);
                let base = since
                    .max(lingered.unwrap_or(since))
                    .max(fell.unwrap_or(since));
                let patience = self.terms.patience(base - fell.unwrap_or(base));
                let limit = base + patience + self.terms.comeback(latency);
                Some(("working", self.truth.put_off(base, limit)))
            }
            Answers::Good if self.state == "marginal" => {
                let bad = self.truth.last_bad().max(self.falls.back().copied())?;
                let base = bad.max(since);
                let limit = base + self.terms.cleared(latency);
                Some(("up", self.truth.put_off(base, limit)))
            }
            Answers::Good => None,
        }
    }

    fn note(&mut self, at: At, text: &str) {
        if self.history.len() == LINES {
            self.history.pop_front();
        }
        self.history
            .push_back(format!("{:10.3}  {text}", at.as_secs_f64()));
    }
}
