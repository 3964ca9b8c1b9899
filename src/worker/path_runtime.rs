//! A path as its worker sees it: settings, health, the check in progress, the stuck read.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Key, Mono, OpId, Stage, Submission, TargetId};

use crate::device::{Device, DeviceId, Geometry};
use crate::health::{
    Cause, Check, DeviceProbe, Health, History, LinkState, NoProbe, Nowait, Saved, State,
    UnknownReason, Verdict, verdict_if_unanswered, waits_for_tag,
};
use crate::schedule::CheckTiming;
use crate::settings::{Settings, Sleeping};
use crate::status::{GroupCell, PathId, StatusCell};
use crate::worker::message::Once;

/// While a path answers, sysfs is read before one check in so many. Whatever it could report would
/// show in the read as well, and after a bad check it is always read.
const READS_PER_LOOK: u32 = 8;
/// A path in standby is read once in so many checks, and after each read that was answered: the
/// access state in sysfs is a cache that only answers to commands refresh (scsi_dh_alua).
const STANDBY_PER_READ: u32 = 16;
/// A file that refused `RWF_NOWAIT` at its first read is tried with it again after so many checks:
/// the refusal may have been the device's own answer.
const READS_PER_TRIAL: u32 = 64;
/// The median latency of a path in a group is updated after so many good checks.
const GOOD_PER_MEDIAN: u32 = 8;

/// A read past its deadline that the kernel still owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stuck {
    pub(crate) id: OpId,
    pub(crate) submitted: Mono,
    /// When its deadline passed.
    pub(crate) since: Mono,
    pub(crate) stage: Stage,
}

/// A watched path. There may be very many, so what only a failing path needs is boxed.
pub(crate) struct PathRuntime {
    pub(crate) id: PathId,
    /// The open file in the backend; `None` while the path is paused, or not reopened yet.
    pub(crate) target: Option<TargetId>,
    pub(crate) geometry: Geometry,
    pub(crate) probe: Box<dyn DeviceProbe + Send>,
    /// A regular file, not a block device.
    pub(crate) is_file: bool,
    pub(crate) cell: Arc<StatusCell>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) health: Health,
    /// The state that was published last.
    pub(crate) shown: State,
    /// Published as up although it is marginal: see `health/peers.rs`.
    pub(crate) kept_up: bool,
    /// Its group in the worker's table.
    pub(crate) group: Option<Key>,
    /// The counters of its group, or those shared by all paths without a group.
    pub(crate) latencies: Arc<GroupCell>,
    /// The median latency of its last good checks; `None` without a group, or after too few checks.
    pub(crate) median_us: Option<u32>,
    pub(crate) timing: CheckTiming,
    /// Checks begun.
    pub(crate) checks_begun: u32,
    /// The last check was answered.
    pub(crate) answered: bool,
    /// The last moment that was planned, so that none is planned twice.
    pub(crate) planned: Mono,
    /// When its next check is due; entries of the schedule for other times are stale.
    pub(crate) due: Mono,
    pub(crate) check: Option<Check>,
    /// When the check in progress resumes after a pause; queued entries for other times are stale.
    pub(crate) resumes: Mono,
    /// The read of the check in progress, while the kernel owns it.
    pub(crate) read: Option<OpId>,
    /// The stuck read. There is at most one: no other read is made meanwhile.
    pub(crate) stuck: Option<Box<Stuck>>,
    /// The device's activity, as the last check observed it that had to.
    pub(crate) history: Option<Box<History>>,
    /// Whether the file supports `RWF_NOWAIT`: assumed until it refuses.
    pub(crate) nowait: Nowait,
    /// A stacked device: what it supports may change with the devices below it.
    pub(crate) stacked: bool,
    /// A thread is looking its name up.
    pub(crate) reopening: bool,
    /// The last verdict was that the device is gone: the name may lead to another one now.
    pub(crate) is_gone: bool,
    /// It was reopened and has had no verdict since: if the next verdict is bad, the name isn't
    /// looked up again at once.
    pub(crate) reopened: bool,
    pub(crate) once: Option<Box<Once>>,
}

impl PathRuntime {
    /// A path without a device: [`PathRuntime::take_device`] comes next.
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
            probe: Box::new(NoProbe),
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

    /// Continues with what another reader left in the cell of the path.
    pub(crate) fn continue_from_cell(&mut self, now: Mono) {
        (self.health, self.kept_up) = self.cell.saved(now).restore();
        self.shown = self.cell.snapshot().state;
    }

    /// Saves what another reader needs to continue, if the path is in shared memory.
    pub(crate) fn save_health(&self) {
        self.cell.save(|| Saved::of(&self.health, self.kept_up));
    }

    /// Takes over what is known of an open device, and returns its file for the backend.
    pub(crate) fn take_device(&mut self, device: Device) -> OwnedFd {
        self.is_file = matches!(device.identity.device, DeviceId::File { .. });
        self.geometry = device.geometry.with_region(self.settings.region);
        self.probe = device.probe;
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

    /// Counts a check that begins.
    pub(crate) fn count_check(&mut self) {
        self.checks_begun = self.checks_begun.wrapping_add(1);
        // The settings may have changed during the last check.
        if self.geometry.region() != self.settings.region {
            self.geometry = self.geometry.with_region(self.settings.region);
        }
    }

    /// The offset of a read of this check. Place 0 is the configured one; other places are tried
    /// when a read there would wait or fails.
    pub(crate) fn offset(&self, retry: u32) -> u64 {
        match retry {
            0 => self.geometry.offset(self.checks_begun),
            other => self
                .geometry
                .spread_offset(self.checks_begun.wrapping_add(other)),
        }
    }

    /// The verdict of a check that makes no read because one is stuck: the stuck read decides.
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
        let verdict = verdict_if_unanswered(stage, was_kept_out, &mut history, &*self.probe, times);
        self.history = history.is_worth_keeping(true).then_some(history);
        verdict
    }

    /// Whether a check may begin: not while one is in progress, nor while the path is paused. A
    /// check behind a stuck read would show nothing new while the path is down, or before the stuck
    /// read had its whole timeout: one that was submitted late, after retries, may still be
    /// answered.
    pub(crate) fn is_free(&self, now: Mono) -> bool {
        let state = self.health.state();
        let told = self.stuck.as_ref().is_some_and(|stuck| {
            state == State::Down || now.since(stuck.submitted) < self.settings.timeout
        });
        self.check.is_none() && state != State::Paused && !told
    }

    /// Whether its disk sleeps and must not be woken. A disk that owns one of our reads does not
    /// sleep.
    pub(crate) fn is_left_asleep(&self) -> bool {
        self.settings.sleeping == Sleeping::Leave
            && self.once.is_none()
            && self.stuck.is_none()
            && self.probe.is_asleep()
    }

    /// A verdict about the device is in; records its time and when the next one is expected.
    pub(crate) fn set_checked_at(&self, now: Mono) {
        self.cell.set_checked_at(now);
        self.expect_next();
    }

    /// The next verdict is expected from the next check.
    pub(crate) fn expect_next(&self) {
        self.cell.expect_verdict(self.due, self.settings.timeout);
    }

    /// A check is due but must not begin. If the reason is a stuck read, the next verdict is
    /// expected from the next check; and the stuck read confirms now that a path which is down
    /// still is.
    pub(crate) fn confirm_stuck(&self, now: Mono) {
        let state = self.health.state();
        if self.stuck.is_none() || self.check.is_some() || state == State::Paused {
            return;
        }
        if state == State::Down {
            self.cell.set_checked_at(now);
        }
        self.expect_next();
    }

    /// What this check assumes about `RWF_NOWAIT`.
    pub(crate) fn presumed_nowait(&self) -> Nowait {
        if self.nowait == Nowait::Unsupported && self.checks_begun.is_multiple_of(READS_PER_TRIAL) {
            return Nowait::Untried;
        }
        self.nowait
    }

    /// The state of the link before a read, from sysfs if that is worth reading.
    pub(crate) fn link(&self) -> LinkState {
        if self.answered && !self.checks_begun.is_multiple_of(READS_PER_LOOK) {
            return LinkState::Running;
        }
        match self.probe.link() {
            LinkState::Standby
                if self.answered || self.checks_begun.is_multiple_of(STANDBY_PER_READ) =>
            {
                LinkState::Running
            }
            link => link,
        }
    }

    /// Replaces a bad verdict by the reason that sysfs shows by now: the target may have gone to
    /// standby after the check began.
    pub(crate) fn refine_with_sysfs(&self, verdict: Verdict) -> Verdict {
        if verdict == (Verdict::ShortRead { got: 0 }) && self.probe.is_gone() {
            // The errno of the block layer for a device that is gone (`BLK_STS_OFFLINE`).
            let errno = Errno::ENODEV;
            return Verdict::Failed { errno };
        }
        let why = UnknownReason::WouldBlock;
        if !verdict.is_bad() && verdict != (Verdict::Unknown { why }) {
            return verdict;
        }
        match self.probe.link() {
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
        cell.end_check(verdict.kind());
        let is_plain = self.nowait == Nowait::Unsupported;
        if verdict.comes_from_read() || is_plain {
            cell.set_nowait(!is_plain);
        }
    }

    /// Counts a latency; returns whether the median that peers are compared with was updated.
    pub(crate) fn record_latency(&mut self, latency: Duration) -> bool {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.latencies.count(us);
        let counted = self.cell.window().count(us);
        if self.group.is_none() || !counted.is_multiple_of(GOOD_PER_MEDIAN) {
            return false;
        }
        let median = self.cell.window().recent_median();
        self.median_us = median.map(|us| u32::try_from(us).unwrap_or(u32::MAX));
        self.median_us.is_some()
    }

    /// Its median latency, if peers may be compared with it: a path that doesn't work is no
    /// measure.
    pub(crate) fn comparable_us(&self) -> Option<u64> {
        let works = matches!(self.health.state(), State::Up | State::Marginal);
        self.median_us.filter(|_| works).map(u64::from)
    }

    /// The state and the cause to publish, peers considered.
    pub(crate) fn judged(&self) -> (State, Cause) {
        if self.kept_up {
            (State::Up, Cause::LastUsable)
        } else {
            (self.health.state(), self.health.cause())
        }
    }

    /// The cause in words, unless it is that of a single verdict.
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
    use crate::status::CELL_WORDS;

    /// With names and table entries a path then takes about a kibibyte. Sixteen of these bytes tell
    /// when the path was last known and when the next verdict is expected; 32 let its status lie in
    /// memory that is shared with another process.
    #[test]
    fn a_path_takes_seven_tenths_of_a_kibibyte() {
        let words = CELL_WORDS * size_of::<u64>();
        let bytes = size_of::<PathRuntime>() + size_of::<StatusCell>() + words;
        assert!(bytes <= 688 + 32, "{bytes}");
    }
}
