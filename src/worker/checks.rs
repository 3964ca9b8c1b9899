//! The checks of a worker: begun when due, applied when they end, shown when they change something.

use super::*;
use crate::health::VerdictKind;

impl Worker {
    /// Begins what the schedule and the pauses of checks have come to.
    pub(super) fn begin_due(&mut self) {
        let now = self.backend.now();
        self.schedule.take_due(now, &mut self.due);
        let (mut began, mut late, mut latest) = (0, Duration::ZERO, Duration::ZERO);
        for _ in 0..BEGUN_PER_TICK {
            let Some((time, key)) = self.due.pop_front() else {
                break;
            };
            if self.paths.get(key).is_some_and(|path| path.due == time) {
                began += 1;
                late += now.since(time);
                latest = latest.max(now.since(time));
                self.begin(key, now);
            }
        }
        self.progress.began(began, late, latest);
        while let Some(&Reverse((time, key))) = self.retries.peek() {
            if time > now {
                break;
            }
            self.retries.pop();
            match self.paths.get_mut(key) {
                Some(path) if path.resumes == time => path.resumes = Mono::ZERO,
                _ => continue,
            }
            let stall = self.stall;
            self.step(key, now, |check, evidence, timeout| {
                check.forgive(stall.end());
                let end = check.decides_by();
                if now >= end && stall.covers(end, timeout) {
                    return Step::End(STALLED);
                }
                check.again(now, evidence)
            });
        }
    }

    /// Begins a check, unless something speaks against it, and plans the next one. Says whether it
    /// began.
    pub(crate) fn begin(&mut self, key: Key, now: Mono) -> bool {
        let Some(path) = self.paths.get_mut(key) else {
            return false;
        };
        let next = path.next_check(now);
        if path.once.is_none() && path.planned != next {
            path.planned = next;
            path.due = self.schedule.insert(next, key);
        }
        if !path.is_free(now) {
            path.confirm_stuck(now);
            // Its name may lead to something by now that is not stuck.
            if path.health.state() == State::Down && path.check.is_none() && !path.reopening {
                self.gone.push(key);
            }
            return false;
        }
        let timeout = match &path.once {
            Some(once) => once.deadline.since(now),
            None => path.settings.timeout,
        };
        path.count_check();
        if path.is_to_sleep_on() {
            self.conclude(key, ASLEEP, now);
            return true;
        }
        path.cell.owe_since(now);
        let verdict = match (path.link(), path.stuck.is_some()) {
            (LinkState::Offline, _) => Verdict::Offline,
            (LinkState::Standby, _) => Verdict::Standby,
            // The stuck read is this check's, too: a second one would only be stuck behind it.
            (LinkState::Running, true) => path.while_stuck(now),
            (LinkState::Running, false) if path.target.is_none() => {
                let why = UnknownReason::NotOpen;
                Verdict::Unknown { why }
            }
            (LinkState::Running, false) => {
                let check = Check::new(now, timeout, path.geometry.len, path.presumed_nowait())
                    .in_filesystem(path.is_file)
                    .needing_answer(!matches!(path.health.state(), State::Up | State::Marginal))
                    .remembering(path.history.take());
                self.start_check(key, check);
                self.step(key, now, |check, evidence, _| {
                    check.observe_first(now, evidence);
                    check.read(now)
                });
                return true;
            }
        };
        self.conclude(key, verdict, now);
        true
    }

    /// Applies what the backend said to the path it is about.
    pub(super) fn apply(&mut self, completion: Completion) {
        self.progress.count(&completion.outcome);
        let key = Key::from_bits(completion.token);
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if let Outcome::Late(result) = completion.outcome {
            if (path.stuck.as_ref()).is_some_and(|stuck| stuck.id == completion.id) {
                self.unstick(key, result.is_ok(), completion.at);
            }
            return;
        }
        if path.read != Some(completion.id) {
            return;
        }
        path.read = None;
        let mut stalled = false;
        if let Outcome::Expired(stage) = completion.outcome {
            let check = path.check.as_ref();
            let timeout = path.settings.timeout;
            stalled = check.is_some_and(|check| self.stall.covers(check.deadline(), timeout));
            let submitted = check.map_or(completion.at, Check::submitted);
            path.stuck = Some(Box::new(Stuck {
                id: completion.id,
                // A read whose time passed while we did not run has all of it again.
                submitted: submitted.max(if stalled { self.stall.end() } else { submitted }),
                since: completion.at,
                stage,
            }));
            path.cell.set_stuck(Some(completion.at));
        }
        let stall_end = self.stall.end();
        self.step(key, completion.at, |check, evidence, _| {
            if stalled {
                return Step::End(STALLED);
            }
            let step = check.ended(completion.outcome, completion.at, evidence);
            check.forgive(stall_end);
            step
        });
    }

    /// A stuck read ended: the path may be read again, and is, at once.
    fn unstick(&mut self, key: Key, answered: bool, at: Mono) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let since = path.stuck.take().map_or(at, |stuck| stuck.since);
        path.cell.set_stuck(None);
        let state = path.shown;
        let how = if answered { "an answer" } else { "an error" };
        let detail = format!(
            "the stuck read ended with {how} {:.1} s after its deadline",
            at.since(since).as_secs_f64()
        );
        self.tell(key, (state, state), Cause::LateAnswer, detail);
        self.begin(key, at);
    }

    /// Asks a check for its next step and takes it.
    pub(super) fn step(
        &mut self,
        key: Key,
        now: Mono,
        next: impl FnOnce(&mut Check, &dyn DeviceProbe, Duration) -> Step,
    ) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let Some(check) = path.check.as_mut() else {
            return;
        };
        let mut step = next(check, &*path.evidence, path.settings.timeout);
        let deadline = check.deadline();
        if let Step::Read { nowait, place } = step {
            let Some(target) = path.target else {
                return self.conclude(
                    key,
                    Verdict::Unknown {
                        why: UnknownReason::Broken,
                    },
                    now,
                );
            };
            let op = Op {
                target,
                offset: path.offset(place),
                len: path.geometry.len,
                deadline,
                nowait,
                token: key.to_bits(),
            };
            step = match (self.backend.submit(op), path.check.as_mut()) {
                (Ok(id), _) => {
                    path.read = Some(id);
                    return;
                }
                (Err(rejected), Some(check)) => check.refused(rejected.why, now),
                (Err(_), None) => return,
            };
        }
        if let Some(nowait) = path.check.as_ref().map(Check::nowait) {
            self.learn_nowait(key, nowait);
        }
        match step {
            Step::Pause(until) => {
                self.retries.push(Reverse((until, key)));
                if let Some(path) = self.paths.get_mut(key) {
                    path.resumes = until;
                }
            }
            Step::End(verdict) => self.conclude(key, verdict, now),
            Step::Read { .. } => unreachable!("a refused read is not tried again at once"),
        }
    }

    /// A path has a check now. With [`Worker::end_check`] the only place that counts them.
    fn start_check(&mut self, key: Key, check: Check) {
        if let Some(path) = self.paths.get_mut(key) {
            debug_assert!(path.check.is_none() && path.stuck.is_none() && path.read.is_none());
            self.running += 1;
            path.check = Some(check);
        }
    }

    /// A path has no check any more.
    pub(super) fn end_check(&mut self, key: Key) -> Option<Check> {
        let check = self.paths.get_mut(key)?.check.take()?;
        assert!(self.running > 0, "a check that was not counted");
        self.running -= 1;
        Some(check)
    }

    pub(super) fn learn_nowait(&mut self, key: Key, nowait: Nowait) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let before = path.nowait;
        path.nowait = match nowait {
            // What a stacked device takes may be another thing when its table is.
            Nowait::Works if path.stacked => Nowait::Untried,
            other => other,
        };
        if before != path.nowait {
            let is_blocking = path.nowait == Nowait::Missing;
            self.count_blocking(before == Nowait::Missing, is_blocking);
        }
    }

    /// A path that was, or was not, read without `RWF_NOWAIT` now is, or is not: the only place that
    /// counts those that are.
    pub(super) fn count_blocking(&mut self, was: bool, is: bool) {
        if was == is {
            return;
        }
        assert!(
            self.blocking >= usize::from(was),
            "one that was not counted"
        );
        self.blocking = self.blocking + usize::from(is) - usize::from(was);
        self.backend.expect_blocking(self.blocking);
    }

    /// A check has ended in its verdict.
    pub(super) fn conclude(&mut self, key: Key, verdict: Verdict, now: Mono) {
        let ended = self.end_check(key);
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if let Some(check) = ended {
            path.history = check.into_history(path.stuck.is_some());
        }
        path.resumes = Mono::ZERO;
        path.read = None;
        let verdict = path.in_the_light_of_sysfs(verdict);
        path.answered = matches!(verdict, Verdict::Good { .. });
        path.cell.count(verdict.kind());
        path.cell.set_unknown(verdict.unknown_reason());
        path.cell.settle_owed(verdict.kind());
        if verdict.is_of_read() || path.nowait == Nowait::Missing {
            path.cell.set_nowait(path.nowait != Nowait::Missing);
        }
        if let Verdict::Good { latency } = verdict
            && !self.stall.covers(now, Duration::ZERO)
            && path.time(latency)
        {
            self.latency_changed(key);
        }
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let rules = &path.settings.rules;
        if path.health.apply(&verdict, now, rules).is_some() {
            // The next check was planned for the state before, perhaps for long after.
            let next = path.next_check(now);
            self.reschedule_earlier(key, next);
            self.group_changed(key);
        }
        self.show(key, || verdict.to_string());
        #[cfg(test)]
        self.note(key, verdict, now);
        self.after(key, verdict, now);
    }

    /// Sees to what follows from a verdict: a report, an early next check, a device to be found anew.
    fn after(&mut self, key: Key, verdict: Verdict, now: Mono) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if let Some(once) = path.once.take() {
            let _ = once.report.send((path.id, verdict, path.health.state()));
            path.due = Mono::ZERO;
            return;
        }
        let reopened = std::mem::take(&mut path.reopened);
        let is_down = verdict.is_bad() && path.health.state() == State::Down;
        let is_closed = path.target.is_none() && path.health.state() != State::Paused;
        if (is_down || verdict.says_gone()) && !path.reopening && !reopened {
            path.is_gone = verdict.says_gone();
            self.gone.push(key);
        } else if is_closed && !path.reopening && self.broken.is_none() {
            self.gone.push(key);
        }
        let soon = path.timing.soon(now);
        if path.health.is_suspicious() && path.stuck.is_none() {
            self.reschedule_earlier(key, soon);
        }
        let Some(path) = self.paths.get(key) else {
            return;
        };
        if verdict.kind() != VerdictKind::Unknown {
            path.known_at(now);
        } else if verdict == ASLEEP {
            path.expect_next();
        }
    }

    /// Plans the next check of a path for that moment, unless it comes sooner anyway.
    pub(super) fn reschedule_earlier(&mut self, key: Key, moment: Mono) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if path.once.is_none() && moment < path.due {
            path.planned = moment;
            path.due = self.schedule.insert(moment, key);
        }
    }

    /// Shows what a path has become. Whether one in a group is shown as marginal is up to its peers,
    /// after the turn.
    pub(super) fn show(&mut self, key: Key, detail: impl FnOnce() -> String) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if path.health.state() != State::Marginal {
            path.kept_up = false;
        } else if path.group.is_some() && path.shown != State::Marginal && !path.kept_up {
            return;
        }
        self.show_now(key, detail);
    }

    /// Writes what a path has become into its status, and if that is another state, tells everyone who
    /// wants to know.
    pub(super) fn show_now(&mut self, key: Key, detail: impl FnOnce() -> String) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let (state, cause) = path.judged();
        if state == path.shown {
            path.cell.set_cause(state, cause);
            return;
        }
        let from = std::mem::replace(&mut path.shown, state);
        path.cell.set_state(state, cause, SystemTime::now());
        let detail = path
            .explain(cause, self.backend.now())
            .unwrap_or_else(detail);
        self.tell(key, (from, state), cause, detail);
    }

    /// Tells everyone who wants to know.
    pub(super) fn tell(
        &mut self,
        key: Key,
        (from, to): (State, State),
        cause: Cause,
        detail: String,
    ) {
        let Some(path) = self.paths.get(key) else {
            return;
        };
        let event = Event {
            time: SystemTime::now(),
            path: path.cell.info(),
            from,
            to,
            cause,
            detail,
        };
        #[cfg(test)]
        self.probe.events.push((path.id, event.clone()));
        self.subscribers
            .retain(|subscriber| subscriber.tell(&event));
    }
}

/// The disk sleeps, and is left alone.
const ASLEEP: Verdict = Verdict::Unknown {
    why: UnknownReason::Asleep,
};
/// Our own side did not run.
const STALLED: Verdict = Verdict::Unknown {
    why: UnknownReason::Stalled,
};
