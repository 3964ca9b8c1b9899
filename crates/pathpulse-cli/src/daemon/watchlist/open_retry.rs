//! When to open a path again, and why it is not open (pure).

use std::mem;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use pathpulse::OpenProblem;

/// The pause after the first failure; it doubles with each failure up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// An open(2) that takes longer than this is logged.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// The state of a path that is not open.
#[derive(Clone, Debug)]
pub(super) struct OpenRetry {
    pub(super) since: SystemTime,
    /// The same time on the monotonic clock.
    pub(super) begun: Instant,
    /// Why the last open failed.
    pub(super) problem: Option<OpenProblem>,
    /// A thread has been opening it since then.
    opening: Option<Instant>,
    /// An abandoned open has not returned yet.
    blocked: bool,
    /// The slow open is logged.
    is_reported: bool,
    pause: Duration,
    retry: Instant,
}

impl OpenRetry {
    /// A path that is due at once. `now` and `since` are the same time on the two clocks.
    pub(super) fn new(now: Instant, since: SystemTime) -> OpenRetry {
        OpenRetry {
            since,
            begun: now,
            problem: None,
            opening: None,
            blocked: false,
            is_reported: false,
            pause: PAUSE_MIN,
            retry: now,
        }
    }

    /// Whether it is to be opened now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.opening.is_none() && !self.blocked && self.retry <= now
    }

    /// When something is to be done for it; `None` while only the end of an open matters.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.opening {
            None => (!self.blocked).then_some(self.retry),
            Some(since) => (!self.is_reported).then(|| since + OPEN_LIMIT),
        }
    }

    /// A thread begins to open it.
    pub(super) fn begin(&mut self, now: Instant) {
        self.opening = Some(now);
        self.is_reported = false;
    }

    /// Abandons an open under way; returns whether there is one. The next open begins when that one
    /// has returned, however long it takes: each open costs a thread and would hang as this one
    /// does.
    pub(super) fn abandon_open(&mut self) -> bool {
        let is_opening = self.opening.take().is_some();
        if is_opening {
            self.block();
        }
        is_opening
    }

    /// Forbids opens until [`OpenRetry::unblock`].
    pub(super) fn block(&mut self) {
        self.blocked = true;
    }

    /// The abandoned open has returned.
    pub(super) fn unblock(&mut self, now: Instant) {
        self.blocked = false;
        self.retry_now(now);
    }

    /// Returns `true` once for each open that is slow.
    pub(super) fn report_slow_open(&mut self, now: Instant) -> bool {
        let is_slow = self.opening.is_some_and(|since| now >= since + OPEN_LIMIT);
        is_slow && !mem::replace(&mut self.is_reported, true)
    }

    /// The open failed. Returns whether the problem is new.
    pub(super) fn failed(&mut self, problem: OpenProblem, now: Instant) -> bool {
        self.opening = None;
        self.retry = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let is_news = self.problem.as_ref() != Some(&problem);
        self.problem = Some(problem);
        is_news
    }

    /// Something may have changed: the next try is due now, and pauses are short again.
    pub(super) fn retry_now(&mut self, now: Instant) {
        self.retry = now;
        self.pause = PAUSE_MIN;
    }

    /// Whether a later try may succeed without a change of the configuration.
    pub(super) fn may_succeed(&self) -> bool {
        !matches!(
            self.problem,
            Some(
                OpenProblem::NotStorage
                    | OpenProblem::NoDirectIo
                    | OpenProblem::BlockSize(_)
                    | OpenProblem::Twice { .. }
            )
        )
    }

    /// The open path that leads to the same device.
    pub(super) fn is_same_as(&self) -> Option<&Path> {
        match &self.problem {
            Some(OpenProblem::Twice { first }) => Some(first),
            _ => None,
        }
    }

    /// Why it is not open.
    pub(super) fn message(&self) -> String {
        match &self.problem {
            Some(problem) => problem.to_string(),
            None => "open has not returned yet".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_until_something_happens() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut retry = OpenRetry::new(start, SystemTime::UNIX_EPOCH);
        assert!(retry.is_due(start));
        assert!(!retry.abandon_open());
        retry.begin(start);
        // The next open begins when that one has returned, and not before.
        assert!(retry.abandon_open() && retry.due().is_none() && !retry.abandon_open());
        retry.retry_now(start);
        assert!(!retry.is_due(at(100_000)) && retry.due().is_none());
        retry.unblock(start);
        retry.begin(start);
        assert!(!retry.is_due(at(100)) && retry.due() == Some(at(10)));
        assert!(!retry.report_slow_open(at(9)) && retry.report_slow_open(at(10)));
        assert!(!retry.report_slow_open(at(11)) && retry.due().is_none());
        let gone = || OpenProblem::Empty {
            size: 0,
            block: 512,
        };
        let mut now = 11;
        for (pause, news) in [(1, true), (2, false), (4, false), (8, false), (16, false)] {
            assert_eq!(retry.failed(gone(), at(now)), news);
            now += pause;
            assert_eq!(retry.due(), Some(at(now)));
            retry.begin(at(now));
        }
        for _ in 0..2 {
            assert!(!retry.failed(gone(), at(now)));
            assert_eq!(retry.due(), Some(at(now + 30)));
            retry.begin(at(now));
        }
        retry.failed(OpenProblem::Blocked, at(now));
        retry.retry_now(at(now));
        assert!(retry.is_due(at(now)) && retry.may_succeed());
        assert!(retry.failed(OpenProblem::NotStorage, at(now)));
        assert_eq!(retry.due(), Some(at(now + 1)));
        assert!(!retry.may_succeed());
    }
}
