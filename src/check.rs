//! One check: from the first read to exactly one [`Verdict`] (pure: no clock, no I/O).
//!
//! The worker does what a [`Step`] says and brings back what came of it. Most checks are one read
//! that answers. The others climb a ladder:
//!
//! - `EAGAIN` under `RWF_NOWAIT` says that the read would have had to wait before the device saw
//!   it: usually because other I/O holds all of the device's tags. One says nothing (on a busy and
//!   healthy device most reads get it), so the read is tried again with growing pauses until the
//!   deadline. If none gets in, the device's own counters tell a busy device ([`Verdict::Busy`])
//!   from one that makes no progress ([`Verdict::Saturated`]).
//! - A page of the block in the page cache that is not yet written back gives `EAGAIN` as well, on
//!   an idle device too. So every second try reads at another place, and if nothing is in flight
//!   at the device, not getting in proves nothing ([`Why::WouldBlock`]).
//! - A file in a file system gives `EAGAIN` for reasons of the file system's own (a block whose place
//!   is not in memory, pages not yet written back), and there are no counters to tell: it is read
//!   without `RWF_NOWAIT` then.
//! - `EOPNOTSUPP` under `RWF_NOWAIT` says that the file can't tell: the read is made without it. That is
//!   believed of a file whose reads were never answered otherwise; after that it is the device's own answer.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono, Outcome, Reject, Stage};

use crate::verdict::{Verdict, Why};

/// The first pause of the `EAGAIN` ladder; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause: 40 tries and more within the default timeout. On a healthy device with all
/// tags taken, seven of ten tries were seen to fail, so that all of 40 fail once in a million.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Completed I/O of a device as its statistics in sysfs have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Reads, writes, discards and flushes completed since boot.
    pub(crate) completed: u64,
    /// Requests that the device holds now.
    pub(crate) in_flight: u64,
}

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

/// What a device that lets no read in was seen to complete while it held requests, and since when it is
/// no more. The next check goes by it, too: a device that dies while a check finds it busy has had its
/// time when the timeout has passed since its last completion, not only when the next check has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standstill {
    completed: u64,
    since: Mono,
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
    tries: u32,
    nowait: Nowait,
    in_filesystem: bool,
    /// From here on this check reads without `RWF_NOWAIT`.
    plain: bool,
    refused: Option<Why>,
    /// Once a read would have had to wait. In a box, as few checks need it and all are moved about.
    kept_out: Option<Box<KeptOut>>,
}

/// What a check knows of a device that lets no read in.
#[derive(Clone, Copy, Debug, Default)]
struct KeptOut {
    /// What the device had completed when this check last looked.
    completed: Option<u64>,
    /// The device completed something while this check looked on.
    moved: bool,
    standstill: Option<Standstill>,
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
            kept_out: None,
        }
    }

    /// The same check of a file in a file system.
    pub(crate) fn in_filesystem(mut self, is_file: bool) -> Check {
        self.in_filesystem = is_file;
        self
    }

    /// What the next check is to remember, should it be kept out, too.
    pub(crate) fn standstill(&self) -> Option<Standstill> {
        self.kept_out.as_ref()?.standstill
    }

    /// What the device did not do before that moment is not held against it.
    pub(crate) fn forgive(&mut self, until: Mono) {
        let kept_out = self.kept_out.as_mut();
        if let Some(still) = kept_out.and_then(|kept_out| kept_out.standstill.as_mut()) {
            still.since = still.since.max(until);
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
        let place = if self.tries % 2 == 1 { self.tries } else { 0 };
        self.submitted = now;
        self.tries += 1;
        Step::Read {
            nowait: self.nowait != Nowait::Missing && !self.plain,
            place,
        }
    }

    /// The pause is over.
    pub(crate) fn again(&mut self, now: Mono, counters: impl FnOnce() -> Option<Counters>) -> Step {
        if now < self.end_of_patience() {
            return self.read(now);
        }
        if let Some(why) = self.refused {
            return unknown(why);
        }
        let counters = counters();
        let mut moved = false;
        if let Some(kept_out) = &mut self.kept_out {
            kept_out.look(counters, self.begun, now);
            moved = kept_out.moved;
        }
        if now < self.end_of_patience() {
            return self.read(now);
        }
        match counters {
            _ if moved && now >= self.deadline => Step::End(Verdict::Busy),
            Some(last) if last.in_flight == 0 => unknown(Why::WouldBlock),
            // It holds requests and ends none, or keeps no statistics: dozens of reads in a row that
            // found no tag free are evidence enough then.
            _ => Step::End(Verdict::Saturated),
        }
    }

    /// When there is something to say even if no read gets in: at the deadline, or when the device has
    /// completed nothing for the whole timeout.
    pub(crate) fn end_of_patience(&self) -> Mono {
        match self.standstill() {
            Some(still) if self.refused.is_none() => {
                let timeout = self.deadline.since(self.begun);
                self.deadline.min(still.since + timeout)
            }
            _ => self.deadline,
        }
    }

    /// The backend refused the read.
    pub(crate) fn refused(&mut self, why: Reject, now: Mono) -> Step {
        self.refused = Some(match why {
            Reject::Full => Why::NoSlot,
            Reject::NoMemory => Why::NoMemory,
            Reject::Invalid => return unknown(Why::Refused(Errno::EINVAL)),
            Reject::Broken => return unknown(Why::Broken),
        });
        self.pause(now)
    }

    /// The read ended. `counters` reads the device's statistics, if the check needs them; `before` is how
    /// the last check left the device, if it was kept out.
    pub(crate) fn ended(
        &mut self,
        outcome: Outcome,
        at: Mono,
        before: Option<Standstill>,
        counters: impl FnOnce() -> Option<Counters>,
    ) -> Step {
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
            Outcome::Failed(errno) => self.failed(errno, at, before, counters),
            Outcome::NotStarted => unknown(Why::NotStarted),
            Outcome::Cancelled => unknown(Why::Cancelled),
            Outcome::Expired(stage) => Step::End(self.expired(stage, at, counters)),
            // A late answer belongs to no check.
            Outcome::Late(_) => unknown(Why::Cancelled),
        }
    }

    /// The read got in and did not answer in time. If it had to wait before, it had less than the
    /// whole time: then a device that goes on completing what it was given before is busy.
    fn expired(
        &mut self,
        stage: Stage,
        at: Mono,
        counters: impl FnOnce() -> Option<Counters>,
    ) -> Verdict {
        if let Some(kept_out) = &mut self.kept_out {
            kept_out.look(counters(), self.begun, at);
            if kept_out.moved {
                return Verdict::Busy;
            }
        }
        Verdict::TimedOut { stage }
    }

    fn failed(
        &mut self,
        errno: Errno,
        at: Mono,
        before: Option<Standstill>,
        counters: impl FnOnce() -> Option<Counters>,
    ) -> Step {
        match errno {
            Errno::EAGAIN if self.in_filesystem && !self.plain => {
                self.plain = true;
                self.tries = 0;
                self.read(at)
            }
            Errno::EAGAIN => {
                self.refused = None;
                let kept_out = self.kept_out.get_or_insert_with(|| {
                    Box::new(KeptOut {
                        standstill: before,
                        ..KeptOut::default()
                    })
                });
                kept_out.look(counters(), self.begun, at);
                self.pause(at)
            }
            Errno::EOPNOTSUPP if self.nowait == Nowait::Untried => {
                self.nowait = Nowait::Missing;
                self.read(at)
            }
            Errno::EINTR => self.pause(at),
            Errno::ENOMEM => unknown(Why::NoMemory),
            // The kernel found fault with the request before any device saw it.
            Errno::EINVAL | Errno::EBADF | Errno::EFAULT | Errno::ECANCELED => {
                unknown(Why::Refused(errno))
            }
            _ => Step::End(Verdict::Failed { errno }),
        }
    }

    fn pause(&self, now: Mono) -> Step {
        let doubling = self.tries.saturating_sub(1).min(16);
        let pause = (PAUSE_MIN * (1 << doubling)).min(PAUSE_MAX);
        let end = self.end_of_patience();
        Step::Pause(
            (now + pause)
                .min(end.max(now + PAUSE_MIN))
                .min(self.deadline),
        )
    }
}

impl KeptOut {
    /// Takes note of what the device completes, in a check that began at `begun`.
    fn look(&mut self, counters: Option<Counters>, begun: Mono, now: Mono) {
        let Some(counters) = counters else {
            return;
        };
        let completed = counters.completed;
        self.moved |= self.completed.is_some_and(|before| before != completed);
        let since = match self.standstill {
            Some(still) if still.completed == completed => still.since,
            _ if self.completed.is_some() => now,
            // What it did before this check nobody knows: the whole time of this check is its chance.
            _ => begun,
        };
        self.completed = Some(completed);
        // A device that holds nothing has nothing to complete.
        let holds = counters.in_flight > 0;
        self.standstill = holds.then_some(Standstill { completed, since });
    }
}

fn unknown(why: Why) -> Step {
    Step::End(Verdict::Unknown { why })
}

#[cfg(test)]
mod tests;
