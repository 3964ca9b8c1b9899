//! What a worker knows of one path.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Key, Mono, OpId, Stage, Submission, TargetId};

use crate::device::{Device, DeviceId, Geometry};
use crate::health::{
    Cause, Check, DeviceProbe, Health, History, LinkState, NoProbe, Nowait, State, UnknownReason,
    Verdict, unanswered, waits_for_tag,
};
use crate::schedule::CheckTiming;
use crate::settings::{Settings, Sleeping};
use crate::status::{GroupCell, PathId, StatusCell};
use crate::worker::message::Once;

/// Of a path that answers, sysfs is asked before one read in so many: what it could say would show in
/// the read, too, and after a bad one it is asked.
const READS_PER_LOOK: u32 = 8;
/// A path in standby is read all the same once in so many checks, and whenever its last read was
/// answered: what sysfs says is a cache that only the answers to commands refresh (scsi_dh_alua).
const STANDBY_PER_READ: u32 = 16;
/// A file that refused `RWF_NOWAIT` at its first read is tried with it again after so many: it may have
/// been the device's own answer.
const READS_PER_TRIAL: u32 = 64;
/// After so many good checks of a path in a group its median is worked out again.
const GOOD_PER_MEDIAN: u32 = 8;

/// A read past its deadline that the kernel did not give back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stuck {
    pub(crate) id: OpId,
    pub(crate) submitted: Mono,
    /// When its deadline passed.
    pub(crate) since: Mono,
    pub(crate) stage: Stage,
}

/// A path under watch. There may be very many: what only a sick one needs is in boxes.
pub(crate) struct PathRuntime {
    pub(crate) id: PathId,
    /// What the backend reads; `None` while there is none, after a backend broke.
    pub(crate) target: Option<TargetId>,
    pub(crate) geometry: Geometry,
    pub(crate) evidence: Box<dyn DeviceProbe + Send>,
    /// A file in a file system, not a block device.
    pub(crate) is_file: bool,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) health: Health,
    /// The state that was shown last.
    pub(crate) shown: State,
    /// Shown as up though it is marginal: see `health/peers.rs`.
    pub(crate) kept_up: bool,
    /// Its group, in the worker's table.
    pub(crate) group: Option<Key>,
    /// What counts for its group, or for all that are in none.
    pub(crate) latencies: Arc<GroupCell>,
    /// Of its last good checks; `None` without a group, or with too few.
    pub(crate) median_us: Option<u32>,
    pub(crate) timing: CheckTiming,
    /// Checks begun.
    pub(crate) checks_begun: u32,
    /// The last check was answered.
    pub(crate) answered: bool,
    /// What was asked of the schedule last, so that the same is not asked for twice.
    pub(crate) planned: Mono,
    /// When the schedule has it next; entries of other times are stale.
    pub(crate) due: Mono,
    pub(crate) check: Option<Check>,
    /// When its check goes on after a pause; entries of other times are stale.
    pub(crate) resumes: Mono,
    /// The read of the check, while the kernel has it.
    pub(crate) read: Option<OpId>,
    /// The read that is stuck. At most one: while it is there, none is added.
    pub(crate) stuck: Option<Box<Stuck>>,
    /// What the device was seen to do by the last check that had to look.
    pub(crate) history: Option<Box<History>>,
    /// Whether reads are made with RWF_NOWAIT: yes, until the file says that it can't.
    pub(crate) nowait: Nowait,
    /// It lies on others, and what it can may change with them.
    pub(crate) stacked: bool,
    /// A thread is opening it anew.
    pub(crate) reopening: bool,
    /// Its last verdict said that its device is gone: the same name may stand for another one.
    pub(crate) is_gone: bool,
    /// It was, and has had no verdict since: one that says again that the device is gone must wait.
    pub(crate) reopened: bool,
    pub(crate) once: Option<Box<Once>>,
}

impl PathRuntime {
    /// A path whose first check begins at once; [`PathRuntime::take_device`] says how it is read.
    pub(crate) fn new(
        id: PathId,
        cell: Arc<StatusCell>,
        (settings, timing): (Arc<Settings>, CheckTiming),
        latencies: Arc<GroupCell>,
    ) -> PathRuntime {
        PathRuntime {
            id,
            target: None,
            geometry: Geometry::new(512, 1),
            evidence: Box::new(NoProbe),
            is_file: false,
            cell,
            settings,
            health: Health::default(),
            shown: State::default(),
            kept_up: false,
            group: None,
            latencies,
            median_us: None,
            timing,
            checks_begun: 0,
            answered: false,
            planned: Mono::ZERO,
            due: Mono::ZERO,
            check: None,
            resumes: Mono::ZERO,
            read: None,
            stuck: None,
            history: None,
            nowait: Nowait::default(),
            stacked: false,
            reopening: false,
            is_gone: false,
            reopened: false,
            once: None,
        }
    }

    /// Takes over what was learned when the device was opened, and returns its file.
    pub(crate) fn take_device(&mut self, device: Device) -> OwnedFd {
        self.is_file = matches!(device.identity.device, DeviceId::File { .. });
        self.geometry = device.geometry.reading(self.settings.region);
        self.evidence = device.evidence;
        self.stacked = device.stacked;
        let isolated = device.submission == Submission::MayBlock;
        self.cell.set_isolated(isolated);
        device.file
    }

    /// When the check after one at `now` is due.
    pub(crate) fn next_check(&self, now: Mono) -> Mono {
        let Settings {
            interval,
            backoff_max,
            ..
        } = *self.settings;
        let backoff = self.health.backoff(now, interval, backoff_max);
        self.timing.next_after(now + backoff)
    }

    /// A check begins.
    pub(crate) fn count_check(&mut self) {
        self.checks_begun = self.checks_begun.wrapping_add(1);
        // The settings may have changed while the last one was going on.
        if self.geometry.region() != self.settings.region {
            self.geometry = self.geometry.reading(self.settings.region);
        }
    }

    /// Where a read of this check goes: 0 is the first, others are tried when that would wait.
    pub(crate) fn offset(&self, retry: u32) -> u64 {
        match retry {
            0 => self.geometry.offset(self.checks_begun),
            other => self
                .geometry
                .elsewhere(self.checks_begun.wrapping_add(other)),
        }
    }

    /// The verdict of a check that makes no read, because one is stuck: that one is this check's, too.
    pub(crate) fn while_stuck(&mut self, now: Mono) -> Verdict {
        let Some(Stuck {
            stage, submitted, ..
        }) = self.stuck.as_deref().copied()
        else {
            return Verdict::Unknown {
                why: UnknownReason::Cancelled,
            };
        };
        let mut history = self.history.take().unwrap_or_default();
        let times = (submitted, now, self.settings.timeout);
        let was_kept_out = waits_for_tag(self.nowait, stage);
        let verdict = unanswered(stage, was_kept_out, &mut history, &*self.evidence, times);
        self.history = history.is_telling(true).then_some(history);
        verdict
    }

    /// Whether a check may begin. Not while one is going on, nor when paused. Of a path with a stuck
    /// read there is nothing new to say when it is down, or before the read had its whole time: one
    /// that got in late, after others had kept it out, may still be answered.
    pub(crate) fn is_free(&self, now: Mono) -> bool {
        let state = self.health.state();
        let told = self.stuck.as_ref().is_some_and(|stuck| {
            state == State::Down || now.since(stuck.submitted) < self.settings.timeout
        });
        self.check.is_none() && state != State::Paused && !told
    }

    /// Whether its disk sleeps, and is to be left alone. A disk that has a read of ours does not sleep.
    pub(crate) fn is_left_asleep(&self) -> bool {
        self.settings.sleeping == Sleeping::Leave
            && self.once.is_none()
            && self.stuck.is_none()
            && self.evidence.is_asleep()
    }

    /// A verdict said something about the device, and the next one is expected.
    pub(crate) fn known_at(&self, now: Mono) {
        self.cell.known_at(now);
        self.expect_next();
    }

    /// The next verdict may be as old as that of the next check.
    pub(crate) fn expect_next(&self) {
        self.cell.expect_verdict(self.due, self.settings.timeout);
    }

    /// A check is due and may not begin. If that is for a read that is stuck, the next verdict may
    /// take its time; and of a path that is down, that it still is stuck is what is known now.
    pub(crate) fn confirm_stuck(&self, now: Mono) {
        let state = self.health.state();
        if self.stuck.is_none() || self.check.is_some() || state == State::Paused {
            return;
        }
        if state == State::Down {
            self.cell.known_at(now);
        }
        self.expect_next();
    }

    /// What this check is to take for known of `RWF_NOWAIT`.
    pub(crate) fn presumed_nowait(&self) -> Nowait {
        if self.nowait == Nowait::Missing && self.checks_begun.is_multiple_of(READS_PER_TRIAL) {
            return Nowait::Untried;
        }
        self.nowait
    }

    /// What sysfs says before a read.
    pub(crate) fn link(&self) -> LinkState {
        if self.answered && !self.checks_begun.is_multiple_of(READS_PER_LOOK) {
            return LinkState::Running;
        }
        match self.evidence.link() {
            LinkState::Standby
                if self.answered || self.checks_begun.is_multiple_of(STANDBY_PER_READ) =>
            {
                LinkState::Running
            }
            link => link,
        }
    }

    /// A verdict for which sysfs has the reason by now is that reason: the target may have gone to
    /// standby after the check began.
    pub(crate) fn refine_with_sysfs(&self, verdict: Verdict) -> Verdict {
        if verdict == (Verdict::ShortRead { got: 0 }) && self.evidence.is_gone() {
            // As the block layer calls a device that is gone (`BLK_STS_OFFLINE`).
            let errno = Errno::ENODEV;
            return Verdict::Failed { errno };
        }
        let why = UnknownReason::WouldBlock;
        if !verdict.is_bad() && verdict != (Verdict::Unknown { why }) {
            return verdict;
        }
        match self.evidence.link() {
            LinkState::Offline => Verdict::Offline,
            LinkState::Standby => Verdict::Standby,
            LinkState::Running => verdict,
        }
    }

    /// Counts a verdict in the status cell, with what it says about how the path is read.
    pub(crate) fn record(&mut self, verdict: Verdict) {
        self.answered = matches!(verdict, Verdict::Good { .. });
        let cell = &self.cell;
        cell.count(verdict.kind());
        cell.set_unknown(verdict.unknown_reason());
        cell.settle_owed(verdict.kind());
        let is_plain = self.nowait == Nowait::Missing;
        if verdict.is_of_read() || is_plain {
            cell.set_nowait(!is_plain);
        }
    }

    /// Counts a latency; says whether the path's median is another one for its peers.
    pub(crate) fn record_latency(&mut self, latency: Duration) -> bool {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.latencies.count(us);
        let counted = self.cell.window.count(us);
        if self.group.is_none() || !counted.is_multiple_of(GOOD_PER_MEDIAN) {
            return false;
        }
        let median = self.cell.window.recent_median();
        self.median_us = median.map(|us| u32::try_from(us).unwrap_or(u32::MAX));
        self.median_us.is_some()
    }

    /// Its median, if its peers may be compared with it: what does not work is no measure.
    pub(crate) fn comparable_us(&self) -> Option<u64> {
        let works = matches!(self.health.state(), State::Up | State::Marginal);
        self.median_us.filter(|_| works).map(u64::from)
    }

    /// Its state and the cause, its peers considered.
    pub(crate) fn judged(&self) -> (State, Cause) {
        if self.kept_up {
            (State::Up, Cause::LastUsable)
        } else {
            (self.health.state(), self.health.cause())
        }
    }

    /// A cause in words, if it is not that of a single verdict.
    pub(crate) fn explain(&self, cause: Cause, now: Mono) -> Option<String> {
        let rules = &self.settings.rules;
        Some(match cause {
            Cause::ErrorRate => {
                format!("{} of the last 100 checks were bad", self.health.errors())
            }
            Cause::Flapping => format!(
                "went down {} times within {:?}",
                self.health.falls_since(now, rules.flap_window),
                rules.flap_window
            ),
            Cause::Slow => format!(
                "answers in {} us (median), more than {} times its peers'",
                self.median_us.unwrap_or_default(),
                rules.marginal_latency
            ),
            Cause::LastUsable => {
                format!("{}, but no peer is up", self.health.cause().name())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that a path takes less than a kibibyte with its names and its places in tables. Sixteen bytes
    /// of it say when the path was last known and by when it is to be known again.
    #[test]
    fn a_path_takes_two_thirds_of_a_kibibyte() {
        let bytes = size_of::<PathRuntime>() + size_of::<StatusCell>();
        assert!(bytes <= 688, "{bytes}");
    }
}
