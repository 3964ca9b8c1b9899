//! Paths that are not watched yet: why, since when, and when to try again (pure).

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use pathpulse::OpenProblem;

/// Between the first tries to open a path; doubled each time up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Between tries, at most.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// open(2) is not worth a word before.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// A path on its way to be watched.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) since: SystemTime,
    /// The same time, by a clock that nobody sets.
    pub(super) begun: Instant,
    /// Why it did not open the last time.
    pub(super) problem: Option<OpenProblem>,
    /// A thread opens it, since then.
    opening: Option<Instant>,
    /// An earlier open, which was for nothing, has not returned.
    held: bool,
    /// It was said that this takes long.
    said: bool,
    pause: Duration,
    retry: Instant,
}

impl Waiting {
    /// One that is to be opened at once: `now` and `since` are the same time, by the two clocks.
    pub(super) fn new(now: Instant, since: SystemTime) -> Waiting {
        Waiting {
            since,
            begun: now,
            problem: None,
            opening: None,
            held: false,
            said: false,
            pause: PAUSE_MIN,
            retry: now,
        }
    }

    /// Whether it is to be opened now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.opening.is_none() && !self.held && self.retry <= now
    }

    /// When something is to be done for it; `None` while only its open can bring news.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.opening {
            None => (!self.held).then_some(self.retry),
            Some(since) => (!self.said).then(|| since + OPEN_LIMIT),
        }
    }

    /// A thread begins to open it.
    pub(super) fn begin(&mut self, now: Instant) {
        self.opening = Some(now);
        self.said = false;
    }

    /// An open that is under way, if there is one, is for nothing; says whether one is. The next begins when that
    /// has ended, however long it takes: each would cost a thread, and hang as this one does.
    pub(super) fn forgo(&mut self) -> bool {
        let is_opening = self.opening.take().is_some();
        if is_opening {
            self.hold();
        }
        is_opening
    }

    /// It is not to be opened before it is let go.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// An open that was for nothing has ended.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.held = false;
        self.hurry(now);
    }

    /// Says once that its open takes long.
    pub(super) fn takes_long(&mut self, now: Instant) -> bool {
        let long = self.opening.is_some_and(|since| now >= since + OPEN_LIMIT);
        long && !std::mem::replace(&mut self.said, true)
    }

    /// It did not open. Says whether that is news.
    pub(super) fn failed(&mut self, problem: OpenProblem, now: Instant) -> bool {
        self.opening = None;
        self.retry = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let news = self.problem.as_ref() != Some(&problem);
        self.problem = Some(problem);
        news
    }

    /// Something may have changed: it is tried at once, and soon again.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.retry = now;
        self.pause = PAUSE_MIN;
    }

    /// Whether time alone may help.
    pub(super) fn may_come(&self) -> bool {
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

    /// The path that is watched and leads to the same device.
    pub(super) fn is_same_as(&self) -> Option<&Path> {
        match &self.problem {
            Some(OpenProblem::Twice { first }) => Some(first),
            _ => None,
        }
    }

    /// Why it is not watched.
    pub(super) fn message(&self) -> String {
        match (&self.problem, self.opening) {
            (Some(problem), _) => problem.to_string(),
            (None, _) => "open has not returned yet".to_owned(),
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
        let mut waiting = Waiting::new(start, SystemTime::UNIX_EPOCH);
        assert!(waiting.is_due(start));
        assert!(!waiting.forgo());
        waiting.begin(start);
        // The next one begins when that has ended, whatever else happens, and not before.
        assert!(waiting.forgo() && waiting.due().is_none() && !waiting.forgo());
        waiting.hurry(start);
        assert!(!waiting.is_due(at(100_000)) && waiting.due().is_none());
        waiting.let_go(start);
        waiting.begin(start);
        assert!(!waiting.is_due(at(100)) && waiting.due() == Some(at(10)));
        assert!(!waiting.takes_long(at(9)) && waiting.takes_long(at(10)));
        assert!(!waiting.takes_long(at(11)) && waiting.due().is_none());
        let gone = || OpenProblem::Empty {
            size: 0,
            block: 512,
        };
        let mut now = 11;
        for (pause, news) in [(1, true), (2, false), (4, false), (8, false), (16, false)] {
            assert_eq!(waiting.failed(gone(), at(now)), news);
            now += pause;
            assert_eq!(waiting.due(), Some(at(now)));
            waiting.begin(at(now));
        }
        for _ in 0..2 {
            assert!(!waiting.failed(gone(), at(now)));
            assert_eq!(waiting.due(), Some(at(now + 30)));
            waiting.begin(at(now));
        }
        waiting.failed(OpenProblem::Blocked, at(now));
        waiting.hurry(at(now));
        assert!(waiting.is_due(at(now)) && waiting.may_come());
        assert!(waiting.failed(OpenProblem::NotStorage, at(now)));
        assert_eq!(waiting.due(), Some(at(now + 1)));
        assert!(!waiting.may_come());
    }
}
