//! One check: from the first read to exactly one [`Verdict`] (pure: no clock, no I/O).
//!
//! The worker does what a [`Step`] says and brings back what came of it. Most checks are one read
//! that answers. The others climb a ladder:
//!
//! - `EAGAIN` under `RWF_NOWAIT` says that the read would have had to wait before the device saw
//!   it: usually because other I/O holds all of the device's tags. One says nothing (on a busy and
//!   healthy device most reads get it), so the read is tried again with growing pauses until the
//!   deadline, every second time at another place: a page of the block in the page cache that is not
//!   yet written back gives `EAGAIN` as well. If none gets in, the counters of the device, or of those
//!   below it, tell what that means (`health/evidence.rs`).
//! - A read without `RWF_NOWAIT` waits for a tag, where the others get `EAGAIN`. One that is blocked in
//!   its submission at the deadline is judged by the counters, too.
//! - A file in a file system gives `EAGAIN` for reasons of the file system's own (a block whose place
//!   is not in memory, pages not yet written back), and there are no counters to tell: it is read
//!   without `RWF_NOWAIT` then.
//! - `EOPNOTSUPP` under `RWF_NOWAIT` says that the file can't tell: the read is made without it. That is
//!   believed of a file whose reads were never answered otherwise; after that it is the device's own answer.
//! - `EIO`, `ENODATA` and `EILSEQ` may be the fault of one block: another place is read before they are
//!   held against the path. If that is answered, the way to the device works.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono, Outcome, Reject, Stage};

use crate::health::{DeviceProbe, History, Silence, UnknownReason, Verdict, when_kept_out};

/// The first pause of the `EAGAIN` ladder; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause: 40 tries and more within the default timeout. On a healthy device with all
/// tags taken, seven of ten tries were seen to fail, so that all of 40 fail once in a million.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The longest pause of a path that is not up, while its device progresses: that others' reads are
/// answered keeps up what is up, and brings nothing up, so that a read has to get in. At 50 ms, two
/// checks of three failed to on a disk whose tags 160 others wanted all the time.
const PAUSE_MAX_NOT_UP: Duration = Duration::from_millis(4);

/// What the worker has to do for a check next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Submit a read.
    Read {
        /// With `RWF_NOWAIT`.
        nowait: bool,
        /// Which place of the device: 0 is the configured one, any other number another one.
        place: u32,
    },
    /// Call [`Check::again`] at this time.
    Pause(Mono),
    /// The check is over.
    End(Verdict),
}

/// What is known of a file and `RWF_NOWAIT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Nowait {
    /// No read was answered yet.
    #[default]
    Untried,
    /// The file takes such reads.
    Works,
    /// The file takes none.
    Missing,
}

/// A check that is going on.
#[derive(Debug)]
pub(crate) struct Check {
    begun: Mono,
    deadline: Mono,
    submitted: Mono,
    len: u32,
    /// As many as fit.
    tries: u16,
    nowait: Nowait,
    in_filesystem: bool,
    /// From here on this check reads without `RWF_NOWAIT`.
    plain: bool,
    refused: Option<UnknownReason>,
    /// A read would have had to wait.
    kept_out: bool,
    /// The path is not up, and only a read that is answered makes it so.
    needs_answer: bool,
    /// What the device was seen to do. In a box, as few checks need it and all are moved about.
    history: Option<Box<History>>,
}

impl Check {
    /// A check of `len` bytes that begins now. `nowait` is what is known of the file so far.
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
            kept_out: false,
            needs_answer: false,
            history: None,
        }
    }

    /// The same check of a file in a file system.
    pub(crate) fn in_filesystem(mut self, is_file: bool) -> Check {
        self.in_filesystem = is_file;
        self
    }

    /// The same check of a path that is not up.
    pub(crate) fn needing_answer(mut self, needs_answer: bool) -> Check {
        self.needs_answer = needs_answer;
        self
    }

    /// The same check, which goes by what earlier ones saw the device do.
    pub(crate) fn remembering(mut self, history: Option<Box<History>>) -> Check {
        self.history = history;
        if let Some(history) = &mut self.history {
            history.begin_check();
        }
        self
    }

    /// What the next check is to remember; it has the same read if that is stuck.
    pub(crate) fn into_history(self, is_stuck: bool) -> Option<Box<History>> {
        self.history.filter(|history| history.is_telling(is_stuck))
    }

    /// What the device did not do before that moment is not held against it.
    pub(crate) fn forgive(&mut self, until: Mono) {
        if let Some(history) = &mut self.history {
            history.forgive(until);
        }
    }

    /// Looks at what the device does, before the first read: where one of several devices below may be
    /// the one that answers, or the read may wait for a tag, a read that is not answered is judged by
    /// what happens from here on.
    pub(crate) fn observe_first(&mut self, now: Mono, evidence: &dyn DeviceProbe) {
        if evidence.is_redundant() || self.nowait == Nowait::Missing {
            self.observe(now, evidence);
        }
    }

    /// When its last read was submitted.
    pub(crate) fn submitted(&self) -> Mono {
        self.submitted
    }

    /// When it ends at the latest.
    pub(crate) fn deadline(&self) -> Mono {
        self.deadline
    }

    /// Whether the file is read with `RWF_NOWAIT`, as far as this check found out.
    pub(crate) fn nowait(&self) -> Nowait {
        self.nowait
    }

    /// The next read, to be submitted now.
    pub(crate) fn read(&mut self, now: Mono) -> Step {
        let elsewhere = self.tries % 2 == 1 || self.block_error().is_some();
        let place = if elsewhere {
            u32::from(self.tries.max(1))
        } else {
            0
        };
        self.submitted = now;
        self.tries = self.tries.saturating_add(1);
        Step::Read {
            nowait: self.nowait != Nowait::Missing && !self.plain,
            place,
        }
    }

    /// The pause is over.
    pub(crate) fn again(&mut self, now: Mono, evidence: &dyn DeviceProbe) -> Step {
        if now < self.decides_by() {
            return self.read(now);
        }
        if let Some(why) = self.refused {
            return unknown(why);
        }
        self.observe(now, evidence);
        if now < self.decides_by() {
            return self.read(now);
        }
        let seen = self.history.take().unwrap_or_default();
        let verdict = when_kept_out(&seen, || evidence.may_be_dirty());
        self.history = Some(seen);
        Step::End(verdict)
    }

    /// When there is something to say even if no read gets in: at the deadline, or when the device has
    /// completed nothing for the whole timeout.
    pub(crate) fn decides_by(&self) -> Mono {
        let still = self.history.as_ref().and_then(|seen| seen.still_since());
        match still {
            Some(since) if self.kept_out && self.refused.is_none() => {
                self.deadline.min(since + self.timeout())
            }
            _ => self.deadline,
        }
    }

    fn timeout(&self) -> Duration {
        self.deadline.since(self.begun)
    }

    fn observe(&mut self, now: Mono, evidence: &dyn DeviceProbe) {
        let (begun, timeout) = (self.begun, self.timeout());
        if let Some(activity) = evidence.activity() {
            let history = self.history.get_or_insert_default();
            history.observe(&activity, begun, now, timeout);
        }
    }

    /// The backend refused the read.
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
    pub(crate) fn ended(&mut self, outcome: Outcome, at: Mono, evidence: &dyn DeviceProbe) -> Step {
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
            Outcome::Failed(errno) => self.failed(errno, at, evidence),
            Outcome::NotStarted => unknown(UnknownReason::NotStarted),
            Outcome::Cancelled => unknown(UnknownReason::Cancelled),
            Outcome::Expired(stage) => Step::End(self.expired(stage, at, evidence)),
            // A late answer belongs to no check.
            Outcome::Late(_) => unknown(UnknownReason::Cancelled),
        }
    }

    /// The read got in and did not answer in time.
    fn expired(&mut self, stage: Stage, at: Mono, evidence: &dyn DeviceProbe) -> Verdict {
        let timeout = self.timeout();
        let was_kept_out = self.kept_out || waits_for_tag(self.nowait, stage);
        let (history, begun) = (self.history.get_or_insert_default(), self.begun);
        unanswered(stage, was_kept_out, history, evidence, (begun, at, timeout))
    }

    fn failed(&mut self, errno: Errno, at: Mono, evidence: &dyn DeviceProbe) -> Step {
        match errno {
            Errno::EAGAIN if self.in_filesystem && !self.plain => {
                self.plain = true;
                self.tries = 0;
                self.read(at)
            }
            Errno::EAGAIN => {
                self.refused = None;
                self.kept_out = true;
                self.observe(at, evidence);
                self.pause(at)
            }
            Errno::EOPNOTSUPP if self.nowait == Nowait::Untried => {
                self.nowait = Nowait::Missing;
                self.tries = 0;
                self.observe(at, evidence);
                self.read(at)
            }
            Errno::EINTR => {
                self.refused = Some(UnknownReason::Refused(errno));
                self.pause(at)
            }
            Errno::ENOMEM => unknown(UnknownReason::NoMemory),
            // The kernel found fault with the request before any device saw it.
            Errno::EINVAL | Errno::EBADF | Errno::EFAULT | Errno::ECANCELED => {
                unknown(UnknownReason::Refused(errno))
            }
            Errno::EIO | Errno::ENODATA | Errno::EILSEQ => self.block_failed(errno, at),
            _ => Step::End(Verdict::Failed { errno }),
        }
    }

    /// A block can't be read: another one is tried, once, if there is time.
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

    fn pause(&self, now: Mono) -> Step {
        let doubling = self.tries.saturating_sub(1).min(16);
        let is_still = (self.history.as_ref()).is_some_and(|seen| seen.still_since().is_some());
        let longest = match self.needs_answer && self.kept_out && !is_still {
            true => PAUSE_MAX_NOT_UP,
            false => PAUSE_MAX,
        };
        let pause = (PAUSE_MIN * (1 << doubling)).min(longest);
        let end = self.decides_by();
        Step::Pause(
            (now + pause)
                .min(end.max(now + PAUSE_MIN))
                .min(self.deadline),
        )
    }
}

/// Whether a read may not have reached its device because all tags are taken: without `RWF_NOWAIT` it
/// waits for one, and nothing tells that from a read that a driver holds.
pub(crate) fn waits_for_tag(nowait: Nowait, stage: Stage) -> bool {
    nowait == Nowait::Missing && stage == Stage::Submission
}

/// The verdict on a read that the device has not answered by `at`; looks at what else it does, where that
/// could matter. `begun` is when the check began.
pub(crate) fn unanswered(
    stage: Stage,
    was_kept_out: bool,
    history: &mut History,
    evidence: &dyn DeviceProbe,
    (begun, at, timeout): (Mono, Mono, Duration),
) -> Verdict {
    let silence = Silence {
        stage,
        was_kept_out,
        is_redundant: evidence.is_redundant(),
        is_throttled: evidence.is_throttled(),
    };
    if silence.is_arguable()
        && let Some(activity) = evidence.activity()
    {
        history.observe(&activity, begun, at, timeout);
    }
    silence.verdict(history)
}

fn unknown(why: UnknownReason) -> Step {
    Step::End(Verdict::Unknown { why })
}

#[cfg(test)]
mod tests;
