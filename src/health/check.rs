//! One check: from the first read to exactly one [`Verdict`].
//!
//! No clock, and no I/O except what the [`DeviceProbe`] does when it is asked for counters.
//!
//! The worker executes each [`Step`] and reports the result. Most checks are one read that the
//! device answers. The other cases:
//!
//! - `EAGAIN` with `RWF_NOWAIT`: the read would have waited before the device saw it, usually
//!   because other I/O holds all of the device's tags. A single `EAGAIN` proves nothing: on a busy
//!   and healthy device most reads get it. So the check retries with growing pauses until the
//!   deadline. Every second retry reads another place, since a page of the block that is in the
//!   page cache and not yet written back gives `EAGAIN`, too. If no read gets in, the counters of
//!   the device, or of those below it, decide (`health/evidence.rs`).
//! - A read without `RWF_NOWAIT` waits for a tag where others get `EAGAIN`. If it is still blocked
//!   in its submission at the deadline, the counters decide, too.
//! - A file in a file system gives `EAGAIN` for reasons of the file system (a block address that is
//!   not in memory, pages not yet written back), and it has no counters. The check then reads it
//!   without `RWF_NOWAIT`.
//! - `EOPNOTSUPP` with `RWF_NOWAIT`: the file does not support the flag, and the check reads
//!   without it. This holds only for a file whose reads never had any other result; after that, the
//!   error is the device's own.
//! - `EIO`, `ENODATA` and `EILSEQ` may concern one block only. The check reads another place before
//!   it counts the error. If the device answers that read, the path works.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono, Outcome, Reject, Stage};

use crate::health::{
    DeviceProbe, History, UnknownReason, Verdict, verdict_if_not_admitted, verdict_if_unanswered,
    waits_for_tag,
};
use crate::schedule::spread;

/// The first pause before a retry after `EAGAIN`. Each pause is about twice the previous one, and
/// up to a half shorter ([`Check::jitter`]).
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause. It allows at least 40 tries within the default timeout. On a healthy device
/// with all tags taken, seven of ten tries failed in a measurement; 40 failures in a row then
/// happen less than once in a million checks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The longest pause for a path that is not up, while its device makes progress. Progress of other
/// reads keeps a path up, but does not bring it up: for that one of our reads must get in. With 50
/// ms, two of three checks failed to, on a disk whose tags 160 other readers wanted all the time.
const PAUSE_MAX_NOT_UP: Duration = Duration::from_millis(4);

/// A device that holds requests and has completed none for longer than this makes no progress, as
/// far as the pauses are concerned.
const STILL_AFTER: Duration = Duration::from_millis(250);

/// What the worker does next for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Submit a read.
    Read {
        /// With `RWF_NOWAIT`.
        nowait: bool,
        /// The place on the device: 0 is the configured one, other numbers are other places.
        place: u32,
    },
    /// Call [`Check::retry`] at this time.
    Pause(Mono),
    /// The check ends with this verdict.
    End(Verdict),
}

/// Whether a file supports `RWF_NOWAIT`, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Nowait {
    /// No read has shown it yet.
    #[default]
    Untried,
    /// Reads with the flag work.
    Works,
    /// The file refuses the flag.
    Unsupported,
}

/// A check that is running.
#[derive(Debug)]
pub(crate) struct Check {
    begun: Mono,
    deadline: Mono,
    submitted: Mono,
    len: u32,
    /// Number of reads so far; stays at the maximum once it is reached.
    tries: u16,
    nowait: Nowait,
    in_filesystem: bool,
    /// The rest of this check reads without `RWF_NOWAIT`.
    plain: bool,
    refused: Option<UnknownReason>,
    /// At least one read got `EAGAIN`.
    not_admitted: bool,
    /// The path is not up, and only an answered read can bring it up.
    requires_answer: bool,
    /// What the counters of the device showed. Boxed, because few checks need it and all are moved.
    history: Option<Box<History>>,
}

impl Check {
    /// A check of `len` bytes that begins at `now`, for a file with this knowledge about
    /// `RWF_NOWAIT`.
    pub(crate) fn new(now: Mono, timeout: Duration, len: u32, nowait: Nowait) -> Check {
        Check {
            begun: now,
            deadline: now + timeout,
            submitted: now,
            len,
            tries: 0,
            nowait,
            in_filesystem: false,
            plain: false,
            refused: None,
            not_admitted: false,
            requires_answer: false,
            history: None,
        }
    }

    /// Sets whether the path is a file in a file system.
    pub(crate) fn in_filesystem(mut self, is_file: bool) -> Check {
        self.in_filesystem = is_file;
        self
    }

    /// Sets whether only an answered read can bring the path up.
    pub(crate) fn requiring_answer(mut self, requires_answer: bool) -> Check {
        self.requires_answer = requires_answer;
        self
    }

    /// Sets what earlier checks saw of the device's counters.
    pub(crate) fn with_history(mut self, history: Option<Box<History>>) -> Check {
        self.history = history;
        if let Some(history) = &mut self.history {
            history.begin_check();
        }
        self
    }

    /// What the next check needs to know of the device's counters. If the read is stuck, the next
    /// check is about the same read.
    pub(crate) fn into_history(self, is_stuck: bool) -> Option<Box<History>> {
        self.history
            .filter(|history| history.is_worth_keeping(is_stuck))
    }

    /// Does not count inactivity of the device before `until`.
    pub(crate) fn discount_until(&mut self, until: Mono) {
        if let Some(history) = &mut self.history {
            history.discount_until(until);
        }
    }

    /// Samples the device's counters before the first read, if a read without an answer would be
    /// judged by them: when one of several devices below may answer, or when the read may wait for
    /// a tag.
    pub(crate) fn observe_before_read(&mut self, now: Mono, probe: &dyn DeviceProbe) {
        if probe.is_redundant() || self.nowait == Nowait::Unsupported {
            self.observe(now, probe);
        }
    }

    /// When the last read was submitted.
    pub(crate) fn submitted(&self) -> Mono {
        self.submitted
    }

    /// When the check ends at the latest.
    pub(crate) fn deadline(&self) -> Mono {
        self.deadline
    }

    /// Whether the file supports `RWF_NOWAIT`, as far as this check found out.
    pub(crate) fn nowait(&self) -> Nowait {
        self.nowait
    }

    /// The next read, to be submitted now.
    pub(crate) fn read(&mut self, now: Mono) -> Step {
        let other_place = self.tries % 2 == 1 || self.block_error().is_some();
        let place = if other_place {
            u32::from(self.tries.max(1))
        } else {
            0
        };
        self.submitted = now;
        self.tries = self.tries.saturating_add(1);
        Step::Read {
            nowait: self.nowait != Nowait::Unsupported && !self.plain,
            place,
        }
    }

    /// Continues after a pause.
    pub(crate) fn retry(&mut self, now: Mono, probe: &dyn DeviceProbe) -> Step {
        if now < self.decide_by() {
            return self.read(now);
        }
        if let Some(why) = self.refused {
            return unknown(why);
        }
        self.observe(now, probe);
        if now < self.decide_by() {
            return self.read(now);
        }
        let seen = self.history.take().unwrap_or_default();
        let verdict = verdict_if_not_admitted(&seen, || probe.may_be_dirty());
        self.history = Some(seen);
        Step::End(verdict)
    }

    /// When the check can decide even if no read gets in: at the deadline, or as soon as the device
    /// has completed nothing for a whole timeout.
    pub(crate) fn decide_by(&self) -> Mono {
        let still = self
            .history
            .as_ref()
            .and_then(|seen| seen.no_progress_since());
        match still {
            Some(since) if self.not_admitted && self.refused.is_none() => {
                self.deadline.min(since + self.timeout())
            }
            _ => self.deadline,
        }
    }

    fn timeout(&self) -> Duration {
        self.deadline.since(self.begun)
    }

    fn observe(&mut self, now: Mono, probe: &dyn DeviceProbe) {
        let (begun, timeout) = (self.begun, self.timeout());
        if let Some(activity) = probe.activity() {
            let history = self.history.get_or_insert_default();
            history.observe(&activity, begun, now, timeout);
        }
    }

    /// The backend rejected the read.
    pub(crate) fn refused(&mut self, why: Reject, now: Mono) -> Step {
        self.refused = Some(match why {
            Reject::Full => UnknownReason::NoSlot,
            Reject::NoMemory => UnknownReason::NoMemory,
            Reject::Invalid => return unknown(UnknownReason::Refused(Errno::EINVAL)),
            Reject::Broken => return unknown(UnknownReason::Broken),
        });
        self.pause(now)
    }

    /// The read ended.
    pub(crate) fn ended(&mut self, outcome: Outcome, at: Mono, probe: &dyn DeviceProbe) -> Step {
        let unsupported = outcome == Outcome::Failed(Errno::EOPNOTSUPP);
        let answered = matches!(outcome, Outcome::Read(_) | Outcome::Failed(_));
        if self.nowait == Nowait::Untried && answered && !unsupported {
            self.nowait = Nowait::Works;
        }
        match outcome {
            Outcome::Read(got) if got >= self.len => Step::End(Verdict::Good {
                latency: at.since(self.submitted),
            }),
            Outcome::Read(got) => Step::End(Verdict::ShortRead { got }),
            Outcome::Failed(errno) => self.failed(errno, at, probe),
            Outcome::NotStarted => unknown(UnknownReason::NotStarted),
            Outcome::Cancelled => unknown(UnknownReason::Cancelled),
            Outcome::Expired(stage) => Step::End(self.expired(stage, at, probe)),
            // A late completion belongs to no check.
            Outcome::Late(_) => unknown(UnknownReason::Cancelled),
        }
    }

    /// The deadline of the read passed without an answer.
    fn expired(&mut self, stage: Stage, at: Mono, probe: &dyn DeviceProbe) -> Verdict {
        let timeout = self.timeout();
        let not_admitted = self.not_admitted || waits_for_tag(self.nowait, stage);
        let (history, begun) = (self.history.get_or_insert_default(), self.begun);
        verdict_if_unanswered(stage, not_admitted, history, probe, (begun, at, timeout))
    }

    fn failed(&mut self, errno: Errno, at: Mono, probe: &dyn DeviceProbe) -> Step {
        match errno {
            Errno::EAGAIN if self.in_filesystem && !self.plain => {
                self.plain = true;
                self.tries = 0;
                self.read(at)
            }
            Errno::EAGAIN => {
                self.refused = None;
                self.not_admitted = true;
                self.observe(at, probe);
                self.pause(at)
            }
            Errno::EOPNOTSUPP if self.nowait == Nowait::Untried => {
                self.nowait = Nowait::Unsupported;
                self.tries = 0;
                self.observe(at, probe);
                self.read(at)
            }
            Errno::EINTR => {
                self.refused = Some(UnknownReason::Refused(errno));
                self.pause(at)
            }
            Errno::ENOMEM => unknown(UnknownReason::NoMemory),
            // The kernel rejected the request before the device saw it.
            Errno::EINVAL | Errno::EBADF | Errno::EFAULT | Errno::ECANCELED => {
                unknown(UnknownReason::Refused(errno))
            }
            Errno::EIO | Errno::ENODATA | Errno::EILSEQ => self.block_failed(errno, at),
            _ => Step::End(Verdict::Failed { errno }),
        }
    }

    /// A block is unreadable: tries one other block if time is left.
    fn block_failed(&mut self, errno: Errno, at: Mono) -> Step {
        if let Some(errno) = self.block_error() {
            return Step::End(Verdict::Failed { errno });
        }
        if at >= self.deadline {
            return Step::End(Verdict::Failed { errno });
        }
        self.history.get_or_insert_default().block_error = Some(errno);
        self.read(at)
    }

    fn block_error(&self) -> Option<Errno> {
        self.history.as_ref()?.block_error
    }

    /// A time below `most`, another one for each try. Without it, pauses of a fixed length could
    /// keep step with the device, and each try could come just after others took all free tags.
    fn jitter(&self, most: Duration) -> Duration {
        let nth = self.begun.as_nanos().wrapping_add(self.tries.into());
        Duration::from_nanos(spread(nth, most.as_nanos() as u64))
    }

    fn pause(&self, now: Mono) -> Step {
        let doubling = self.tries.saturating_sub(1).min(16);
        let since = self
            .history
            .as_ref()
            .and_then(|seen| seen.no_progress_since());
        let is_still = since.is_some_and(|since| now.since(since) > STILL_AFTER);
        let longest = match self.requires_answer && self.not_admitted && !is_still {
            true => PAUSE_MAX_NOT_UP,
            false => PAUSE_MAX,
        };
        let pause = (PAUSE_MIN * (1 << doubling)).min(longest);
        let pause = (pause - self.jitter(pause / 2)).max(PAUSE_MIN);
        let end = self.decide_by();
        Step::Pause(
            (now + pause)
                .min(end.max(now + PAUSE_MIN))
                .min(self.deadline),
        )
    }
}

fn unknown(why: UnknownReason) -> Step {
    Step::End(Verdict::Unknown { why })
}

#[cfg(test)]
mod tests;
