//! The checks of a worker: begun when due, driven step by step, concluded with a verdict, published
//! when they change something.
//!
//! What a check does next is decided in `health/check.rs`; here the steps are carried out. All
//! methods work on one path that is borrowed for the whole step ([`CheckedPath`]), together with
//! what its checks share with those of the other paths ([`Checker`]).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pathpulse_kernel_compat::{Backend, Completion, KernelError, Key, Mono, Op, Outcome, Stage};

use super::groups::Groups;
use super::path_runtime::{PathRuntime, Stuck};
use super::{BEGUN_PER_TICK, Worker};
use crate::health::{
    Cause, Check, LinkState, Nowait, State, Step, UnknownReason, Verdict, VerdictKind,
};
use crate::schedule::{Schedule, SchedulingGap};
use crate::status::{Progress, Subscriber};

/// The disk sleeps and is left alone.
const ASLEEP: Verdict = Verdict::Unknown {
    why: UnknownReason::Asleep,
};
/// This process did not run when the check should have ended.
const STALLED: Verdict = Verdict::Unknown {
    why: UnknownReason::Stalled,
};

/// What the checks of all paths of a worker share.
pub(super) struct Checker {
    pub(super) backend: Box<dyn Backend>,
    pub(super) schedule: Schedule<Key>,
    /// Due, but not begun yet.
    pub(super) due: VecDeque<(Mono, Key)>,
    /// When paused checks resume.
    pub(super) retries: BinaryHeap<Reverse<(Mono, Key)>>,
    /// The last time when this thread did not run although it should have.
    pub(super) gap: SchedulingGap,
    /// Checks in progress.
    pub(super) running: usize,
    /// Paths that are read without `RWF_NOWAIT`.
    pub(super) blocking: usize,
    pub(super) groups: Groups,
    /// Paths whose names are looked up again at the end of the tick.
    pub(super) to_reopen: Vec<Key>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) progress: Arc<Progress>,
    /// Why the backend no longer works.
    pub(super) broken: Option<KernelError>,
    #[cfg(test)]
    pub(super) recorder: super::simulation::Recorder,
}

/// A path, borrowed for one step of its check.
pub(super) struct CheckedPath<'a> {
    pub(super) key: Key,
    pub(super) path: &'a mut PathRuntime,
    pub(super) checker: &'a mut Checker,
}

impl Checker {
    pub(super) fn new(backend: Box<dyn Backend>, interval: Duration) -> Checker {
        Checker {
            backend,
            schedule: Schedule::new(interval),
            due: VecDeque::new(),
            retries: BinaryHeap::new(),
            gap: SchedulingGap::default(),
            running: 0,
            blocking: 0,
            groups: Groups::default(),
            to_reopen: Vec::new(),
            subscribers: Vec::new(),
            progress: Arc::default(),
            broken: None,
            #[cfg(test)]
            recorder: super::simulation::Recorder::default(),
        }
    }

    /// When the next check begins or resumes; now, if one is due already.
    pub(super) fn next_wake(&mut self) -> Option<Mono> {
        if !self.due.is_empty() {
            return Some(Mono::ZERO);
        }
        let retry = self.retries.peek().map(|entry| entry.0.0);
        self.schedule.next().into_iter().chain(retry).min()
    }

    /// Keeps the count of paths that are read without `RWF_NOWAIT`; nothing else changes it.
    pub(super) fn count_blocking(&mut self, before: bool, now: bool) {
        if before == now {
            return;
        }
        assert!(
            self.blocking >= usize::from(before),
            "a path was not counted"
        );
        self.blocking = self.blocking + usize::from(now) - usize::from(before);
        self.backend.expect_blocking(self.blocking);
    }
}

impl Worker {
    /// Begins the checks that are due, and resumes those whose pauses are over.
    pub(super) fn begin_due(&mut self) {
        let now = self.checker.backend.now();
        self.checker.schedule.take_due(now, &mut self.checker.due);
        let (mut begun, mut late, mut latest) = (0, Duration::ZERO, Duration::ZERO);
        for _ in 0..BEGUN_PER_TICK {
            let Some((time, key)) = self.checker.due.pop_front() else {
                break;
            };
            let Some(mut path) = self.checked(key).filter(|one| one.path.due == time) else {
                continue;
            };
            path.begin(now);
            begun += 1;
            late += now.since(time);
            latest = latest.max(now.since(time));
        }
        self.checker.progress.record_lag(begun, late, latest);
        while let Some(&Reverse((time, key))) = self.checker.retries.peek() {
            if time > now {
                break;
            }
            self.checker.retries.pop();
            if let Some(mut path) = self.checked(key).filter(|one| one.path.resumes == time) {
                path.resume_check(now);
            }
        }
    }

    /// Begins a check of a path. Returns whether it began.
    pub(crate) fn begin(&mut self, key: Key, now: Mono) -> bool {
        self.checked(key).is_some_and(|mut path| path.begin(now))
    }

    /// Plans the first check of a path that has no file yet.
    pub(super) fn plan_first(&mut self, key: Key) {
        let now = self.checker.backend.now();
        if let Some(mut path) = self.checked(key) {
            path.plan_next(now);
            path.path.expect_next();
        }
    }

    /// Hands a completion to the path that it belongs to.
    pub(super) fn apply(&mut self, completion: Completion) {
        self.checker.progress.count_outcome(&completion.outcome);
        if let Some(mut path) = self.checked(Key::from_bits(completion.token)) {
            path.apply(completion);
        }
    }
}

impl CheckedPath<'_> {
    /// Begins a check unless one is in progress or a read is stuck, and plans the next one. Returns
    /// whether it began.
    pub(super) fn begin(&mut self, now: Mono) -> bool {
        self.plan_next(now);
        let path = &mut *self.path;
        if !path.is_free(now) {
            path.confirm_stuck(now);
            // The name may lead to another device by now, where no read is stuck.
            if path.health.state() == State::Down && path.check.is_none() && !path.reopening {
                self.checker.to_reopen.push(self.key);
            }
            return false;
        }
        path.count_check();
        if path.is_left_asleep() {
            self.conclude(ASLEEP, now);
            return true;
        }
        path.cell.begin_check(now);
        let verdict = match (path.link(), path.stuck.is_some()) {
            (LinkState::Offline, _) => Verdict::Offline,
            (LinkState::Standby, _) => Verdict::Standby,
            // A second read would only queue up behind the stuck one, which decides this check,
            // too.
            (LinkState::Running, true) => path.while_stuck(now),
            (LinkState::Running, false) if path.target.is_none() => {
                let why = UnknownReason::NotOpen;
                Verdict::Unknown { why }
            }
            (LinkState::Running, false) => {
                let step = self.start_check(now);
                self.take(step, now);
                return true;
            }
        };
        self.conclude(verdict, now);
        true
    }

    /// Plans the check after the one at `now`.
    fn plan_next(&mut self, now: Mono) {
        let next = self.path.next_check(now);
        if self.path.once.is_none() && self.path.planned != next {
            self.path.planned = next;
            self.path.due = self.checker.schedule.insert(next, self.key);
        }
    }

    /// Creates the check and returns its first step. With [`CheckedPath::end_check`] the only place
    /// that counts checks in progress.
    fn start_check(&mut self, now: Mono) -> Step {
        let path = &mut *self.path;
        debug_assert!(path.check.is_none() && path.stuck.is_none() && path.read.is_none());
        let timeout = match &path.once {
            Some(once) => once.deadline.since(now),
            None => path.settings.timeout,
        };
        let works = matches!(path.health.state(), State::Up | State::Marginal);
        let mut check = Check::new(now, timeout, path.geometry.len, path.presumed_nowait())
            .in_filesystem(path.is_file)
            .requiring_answer(!works)
            .with_history(path.history.take());
        check.observe_before_read(now, &*path.probe);
        let step = check.read(now);
        path.check = Some(check);
        self.checker.running += 1;
        step
    }

    /// Takes the check in progress away from the path, and its count.
    pub(super) fn end_check(&mut self) -> Option<Check> {
        let check = self.path.check.take()?;
        assert!(self.checker.running > 0, "a check was not counted");
        self.checker.running -= 1;
        Some(check)
    }

    /// Resumes the check after a pause.
    fn resume_check(&mut self, now: Mono) {
        self.path.resumes = Mono::ZERO;
        let Some(check) = self.path.check.as_mut() else {
            return;
        };
        check.discount_until(self.checker.gap.end());
        let end = check.decide_by();
        let was_stalled = self.checker.gap.covers(end, self.path.settings.timeout);
        let step = match now >= end && was_stalled {
            true => Step::End(STALLED),
            false => check.retry(now, &*self.path.probe),
        };
        self.take(step, now);
    }

    /// Applies the completion of a read of this path.
    fn apply(&mut self, completion: Completion) {
        if let Outcome::Late(result) = completion.outcome {
            let stuck = self.path.stuck.as_ref();
            if stuck.is_some_and(|stuck| stuck.id == completion.id) {
                self.release_stuck(result.is_ok(), completion.at);
            }
            return;
        }
        if self.path.read != Some(completion.id) {
            return;
        }
        self.path.read = None;
        let was_stalled = match completion.outcome {
            Outcome::Expired(stage) => self.keep_stuck(&completion, stage),
            _ => false,
        };
        let Some(check) = self.path.check.as_mut() else {
            return;
        };
        let step = if was_stalled {
            Step::End(STALLED)
        } else {
            let step = check.ended(completion.outcome, completion.at, &*self.path.probe);
            check.discount_until(self.checker.gap.end());
            step
        };
        self.take(step, completion.at);
    }

    /// Remembers a read whose deadline passed as stuck. Returns whether the deadline passed while
    /// this process did not run.
    fn keep_stuck(&mut self, completion: &Completion, stage: Stage) -> bool {
        let (check, gap) = (self.path.check.as_ref(), &self.checker.gap);
        let timeout = self.path.settings.timeout;
        let was_stalled = check.is_some_and(|check| gap.covers(check.deadline(), timeout));
        let submitted = check.map_or(completion.at, Check::submitted);
        self.path.stuck = Some(Box::new(Stuck {
            id: completion.id,
            // A read whose deadline passed while we did not run gets the whole timeout again.
            submitted: submitted.max(if was_stalled { gap.end() } else { submitted }),
            since: completion.at,
            stage,
        }));
        self.path.cell.set_stuck(Some(completion.at));
        was_stalled
    }

    /// The stuck read ended: the path can be read again, and is, at once.
    fn release_stuck(&mut self, answered: bool, at: Mono) {
        let since = self.path.stuck.take().map_or(at, |stuck| stuck.since);
        self.path.cell.set_stuck(None);
        let how = if answered { "an answer" } else { "an error" };
        let detail = format!(
            "the stuck read ended with {how} {:.1} s after its deadline",
            at.since(since).as_secs_f64()
        );
        self.emit_remark(Cause::LateAnswer, detail);
        self.begin(at);
    }

    /// Carries out a step of the check.
    fn take(&mut self, mut step: Step, now: Mono) {
        loop {
            match step {
                Step::Read { nowait, place } => match self.submit(nowait, place, now) {
                    None => return,
                    Some(next) => step = next,
                },
                Step::Pause(until) => {
                    self.learn_nowait_from_check();
                    self.checker.retries.push(Reverse((until, self.key)));
                    self.path.resumes = until;
                    return;
                }
                Step::End(verdict) => {
                    self.learn_nowait_from_check();
                    return self.conclude(verdict, now);
                }
            }
        }
    }

    /// Submits a read. Returns the next step if it was refused; that is never another read at once.
    fn submit(&mut self, nowait: bool, place: u32, now: Mono) -> Option<Step> {
        let path = &mut *self.path;
        let deadline = path.check.as_ref()?.deadline();
        let Some(target) = path.target else {
            let why = UnknownReason::Broken;
            return Some(Step::End(Verdict::Unknown { why }));
        };
        let op = Op {
            target,
            offset: path.offset(place),
            len: path.geometry.len,
            deadline,
            nowait,
            token: self.key.to_bits(),
        };
        match self.checker.backend.submit(op) {
            Ok(id) => {
                path.read = Some(id);
                None
            }
            Err(rejected) => {
                let step = path.check.as_mut()?.refused(rejected.why, now);
                debug_assert!(!matches!(step, Step::Read { .. }), "it would spin");
                Some(step)
            }
        }
    }

    fn learn_nowait_from_check(&mut self) {
        if let Some(nowait) = self.path.check.as_ref().map(Check::nowait) {
            self.learn_nowait(nowait);
        }
    }

    /// Keeps what is known about `RWF_NOWAIT` on this path.
    pub(super) fn learn_nowait(&mut self, nowait: Nowait) {
        let before = self.path.nowait;
        self.path.nowait = match nowait {
            // A stacked device supports what its table does, and that may be replaced at any time.
            Nowait::Works if self.path.stacked => Nowait::Untried,
            other => other,
        };
        let is_blocking = self.path.nowait == Nowait::Unsupported;
        self.checker
            .count_blocking(before == Nowait::Unsupported, is_blocking);
    }

    /// Ends the check with its verdict: counts it, applies it to the health, publishes the result.
    pub(super) fn conclude(&mut self, verdict: Verdict, now: Mono) {
        let ended = self.end_check();
        let path = &mut *self.path;
        if let Some(check) = ended {
            path.history = check.into_history(path.stuck.is_some());
        }
        path.resumes = Mono::ZERO;
        path.read = None;
        let verdict = path.refine_with_sysfs(verdict);
        path.record(verdict);
        if let Verdict::Good { latency } = verdict
            && !self.checker.gap.covers(now, Duration::ZERO)
            && path.record_latency(latency)
        {
            self.checker.groups.latency_changed(path.group);
        }
        let rules = &path.settings.rules;
        if path.health.apply(&verdict, now, rules).is_some() {
            // The next check was planned for the previous state, perhaps for much later.
            let next = path.next_check(now);
            self.checker.groups.state_changed(path.group);
            self.reschedule_earlier(next);
        }
        self.publish(|| verdict.to_string());
        #[cfg(test)]
        self.record_verdict(verdict, now);
        self.follow_up(verdict, now);
    }

    /// Does what follows from a verdict: a report, an early next check, another look-up of the
    /// name.
    fn follow_up(&mut self, verdict: Verdict, now: Mono) {
        let path = &mut *self.path;
        if let Some(once) = path.once.take() {
            let _ = once.report.send((path.id, verdict, path.health.state()));
            path.due = Mono::ZERO;
            return;
        }
        let was_reopened = std::mem::take(&mut path.reopened);
        let is_down = verdict.is_bad() && path.health.state() == State::Down;
        let is_closed = path.target.is_none() && path.health.state() != State::Paused;
        if (is_down || verdict.may_mean_gone()) && !path.reopening && !was_reopened {
            path.is_gone = verdict.may_mean_gone();
            self.checker.to_reopen.push(self.key);
        } else if is_closed && !path.reopening && self.checker.broken.is_none() {
            self.checker.to_reopen.push(self.key);
        }
        let soon = path.timing.soon(now);
        if path.health.is_suspicious() && path.stuck.is_none() {
            self.reschedule_earlier(soon);
        }
        if verdict.kind() != VerdictKind::Unknown {
            self.path.set_checked_at(now);
        } else if verdict == ASLEEP {
            self.path.expect_next();
        }
    }

    /// Moves the next check of the path to that moment, unless it is due earlier already.
    pub(super) fn reschedule_earlier(&mut self, moment: Mono) {
        if self.path.once.is_none() && moment < self.path.due {
            self.path.planned = moment;
            self.path.due = self.checker.schedule.insert(moment, self.key);
        }
    }
}
