//! What must hold whatever happens.

use std::collections::HashMap;

use super::world::World;
use super::*;
use crate::health::VerdictKind;

impl World {
    /// At the end of a run.
    pub(super) fn assert_invariants(&self) {
        let seed = self.seed;
        let audit = self.audit.borrow();
        assert!(audit.violations.is_empty(), "seed {seed}: {audit:?}");
        assert_eq!(self.worker.stats().unknown_completions, 0, "seed {seed}");
        for (_, path) in self.worker.paths.iter() {
            self.assert_status(path);
            self.assert_pace(path);
        }
        let all = self.worker.paths.iter();
        let running = all.filter(|(_, path)| path.check.is_some());
        assert_eq!(running.count(), self.worker.checker.running, "seed {seed}");
        self.assert_verdicts();
        self.assert_events();
    }

    fn assert_status(&self, path: &PathRuntime) {
        let seed = self.seed;
        let status = self.cells[&path.id].0.snapshot();
        let begun = u64::from(path.checks_begun) - u64::from(path.check.is_some());
        let ended = status.checks.total();
        assert_eq!(begun, ended, "seed {seed}: one verdict for each check");
        assert_eq!(status.state, path.shown, "seed {seed}");
        self.assert_fresh(path);
        assert_eq!((status.state, status.cause), path.judged(), "seed {seed}");
        assert!(
            path.check.is_none() || path.stuck.is_none(),
            "seed {seed}: a check besides a stuck read"
        );
        assert_eq!(
            status.in_flight.is_some(),
            path.check.is_some(),
            "seed {seed}"
        );
    }

    /// As long as its worker works, only a path of which nothing was known lately is overdue; and
    /// one is, if there was a verdict when one was to be there at the latest.
    fn assert_fresh(&self, path: &PathRuntime) {
        let (seed, now) = (self.seed, self.worker.now());
        let status = self.cells[&path.id].0.snapshot_at(now);
        let mine = self.worker.checker.recorder.verdicts.iter().rev();
        let mut mine = mine.filter(|(id, ..)| *id == path.id).peekable();
        let last = mine.peek().map(|(_, _, verdict, _)| verdict.kind());
        assert!(
            !status.overdue || matches!(last, None | Some(VerdictKind::Unknown)),
            "seed {seed}: {:?} after {last:?}, {status:?}",
            path.id
        );
        let known = mine.find(|(_, _, verdict, _)| verdict.kind() != VerdictKind::Unknown);
        // The clock's zero stands for never: a verdict of then counts as one of a nanosecond later.
        let at = known.map(|(_, at, ..)| Mono::from_nanos(at.as_nanos().max(1)));
        let age = at.map(|at| now.since(at));
        // A stuck read is known anew whenever its path is due.
        let was_stuck = status.checks.total() > status.checks.of(VerdictKind::Good);
        assert!(
            status.verdict_age == age || was_stuck && status.verdict_age < age,
            "seed {seed}: {status:?}, the last verdict {age:?} ago"
        );
    }

    /// No path waits longer for its next check than its settings allow.
    fn assert_pace(&self, path: &PathRuntime) {
        let now = self.worker.now();
        let settings = &path.settings;
        let backoff = path
            .health
            .backoff(now, settings.interval, settings.backoff_max);
        let most = settings.interval.max(settings.backoff_max);
        assert!(backoff + settings.interval <= most, "seed {}", self.seed);
        // Its phase and the slot of the timetable come on top.
        let latest = now + backoff + settings.interval * 2 + Duration::from_millis(64);
        assert!(path.due <= latest, "seed {}: {:?}", self.seed, path.due);
    }

    /// Verdicts that say nothing about the device never changed a state.
    fn assert_verdicts(&self) {
        let mut states: HashMap<PathId, State> = HashMap::new();
        for (id, _, verdict, state) in &self.worker.checker.recorder.verdicts {
            let before = states.insert(*id, *state);
            if verdict.kind() == VerdictKind::Unknown
                && let Some(before) = before
                && before != *state
            {
                // A person may have paused or resumed it in between, or it was compared.
                let by_others = [State::Paused, State::Pending, State::Marginal];
                assert!(by_others.contains(state), "seed {}: {verdict:?}", self.seed);
            }
        }
    }

    /// Events tell every change, each with its cause, and nothing else.
    fn assert_events(&self) {
        let mut states: HashMap<PathId, State> = HashMap::new();
        for (id, event) in &self.worker.checker.recorder.events {
            let before = states.insert(*id, event.to).unwrap_or_default();
            assert_eq!(event.from, before, "seed {}: {event:?}", self.seed);
            let change = event.from != event.to;
            assert_eq!(
                change,
                event.cause != Cause::LateAnswer,
                "seed {}",
                self.seed
            );
            let fits = match event.cause {
                Cause::Verdict(VerdictKind::Good | VerdictKind::Busy, _) | Cause::LastUsable => {
                    event.to == State::Up
                }
                Cause::Verdict(VerdictKind::Standby, _) => event.to == State::Standby,
                Cause::Verdict(VerdictKind::Unknown, _) | Cause::NotChecked => false,
                Cause::Verdict(..) => event.to == State::Down,
                Cause::ErrorRate | Cause::Flapping | Cause::Slow => event.to == State::Marginal,
                Cause::Command => matches!(event.to, State::Paused | State::Pending),
                Cause::LateAnswer | Cause::LeadsElsewhere => true,
            };
            assert!(fits, "seed {}: {event:?}", self.seed);
        }
        for (_, path) in self.worker.paths.iter() {
            let last = states.get(&path.id).copied().unwrap_or_default();
            assert_eq!(last, path.shown, "seed {}", self.seed);
        }
    }

    /// After every turn: a group of which any path works shows one that is up, and only what is
    /// marginal is kept_up.
    pub(super) fn assert_groups(&self) {
        let mut groups: HashMap<Key, (bool, bool)> = HashMap::new();
        for (_, path) in self.worker.paths.iter() {
            let state = path.health.state();
            assert!(
                !path.kept_up || state == State::Marginal,
                "seed {}",
                self.seed
            );
            assert!(path.shown == state || path.kept_up, "seed {}", self.seed);
            if let Some(group) = path.group {
                let (works, up) = groups.entry(group).or_default();
                *works |= matches!(state, State::Up | State::Marginal);
                *up |= path.shown == State::Up;
            }
        }
        for (works, up) in groups.values() {
            assert_eq!(works, up, "seed {}", self.seed);
        }
    }

    pub(super) fn assert_healed(&self) {
        for (_, path) in self.worker.paths.iter() {
            let healed = matches!(path.health.state(), State::Up | State::Marginal);
            let hung = path.stuck.is_some() && path.health.state() == State::Down;
            assert!(
                healed || hung,
                "seed {}: {:?} is {:?}, {:?}",
                self.seed,
                path.id,
                path.health,
                path.stuck
            );
        }
    }
}
