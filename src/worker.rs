//! The only loop: wait, apply, act.
//!
//! A worker owns a backend and some of the paths, and does nothing but check them. It is the only
//! writer of their status. It waits in one place only, in its backend; it reads the kernel's
//! statistics in sysfs, which wait for nothing; it never waits for a reader of its events.
//!
//! Here verdicts are brought about and handed on. What they are is decided in `check.rs`, what
//! they add up to in `health.rs`, and what is due in `schedule.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::{
    Backend, Completion, KernelError, Key, Mono, Op, Outcome, Shutdown, Stats, Table,
};

use crate::check::{Check, Step, Verdict, Why};
use crate::command::{Command, NewPath, Tempo};
use crate::device::DeviceId;
use crate::event::{Event, Subscriber};
use crate::health::{Cause, State, Transition};
use crate::path::PathId;
use crate::schedule::{Pace, Schedule};
use crate::sysfs::LinkState;
use crate::watched::{Stuck, Watched};
pub(crate) use fallback::{Carrier, Fallback};

/// A flood of commands must not keep completions waiting.
const COMMANDS_PER_TURN: u32 = 64;

/// Of many checks that begin together the clock is read once for so many: their latencies are off
/// by what it takes to begin them.
pub(crate) const BEGUN_PER_CLOCK: usize = 32;

/// Checks its paths. See the module.
pub(crate) struct Worker {
    backend: Box<dyn Backend>,
    tempo: Tempo,
    paths: Table<Watched>,
    keys: HashMap<PathId, Key>,
    added: u32,
    /// Paths that are read without RWF_NOWAIT.
    blocking: usize,
    /// Checks that are going on.
    running: usize,
    schedule: Schedule<Key>,
    retries: BinaryHeap<Reverse<(Mono, Key)>>,
    commands: Receiver<Command>,
    /// Taken while waiting, to be obeyed next.
    next_command: Option<Command>,
    subscribers: Vec<Subscriber>,
    /// What to do when the backend breaks.
    fallback: Option<Fallback>,
    /// Why the backend no longer works.
    broken: Option<KernelError>,
    /// Reused, so that a check allocates nothing.
    completions: Vec<Completion>,
    due: Vec<(Mono, Key)>,
    /// Every verdict, for the simulation to go over.
    #[cfg(test)]
    pub(crate) verdicts: Vec<(PathId, Mono, Verdict, State)>,
}

impl Worker {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        tempo: Tempo,
        commands: Receiver<Command>,
        fallback: Option<Fallback>,
    ) -> Worker {
        Worker {
            backend,
            tempo,
            paths: Table::default(),
            keys: HashMap::new(),
            added: 0,
            blocking: 0,
            running: 0,
            schedule: Schedule::new(tempo.interval),
            retries: BinaryHeap::new(),
            commands,
            next_command: None,
            subscribers: Vec::new(),
            fallback,
            broken: None,
            completions: Vec::new(),
            due: Vec::new(),
            #[cfg(test)]
            verdicts: Vec::new(),
        }
    }

    /// Works until it is told to stop, or nobody is left who could tell it anything.
    pub(crate) fn run(mut self) {
        let mut obeyed = 0;
        loop {
            let next = self.next_command.take();
            match next.map_or_else(|| self.commands.try_recv(), Ok) {
                Ok(Command::Stop(deadline, reply)) => {
                    let _ = reply.send(self.shut_down(deadline));
                    return;
                }
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => obeyed = COMMANDS_PER_TURN,
                Err(TryRecvError::Disconnected) => return,
            }
            obeyed += 1;
            if obeyed == COMMANDS_PER_TURN {
                // There may be more commands, and their wake-up was taken: don't wait.
                self.backend.waker().wake();
            }
            if obeyed >= COMMANDS_PER_TURN {
                self.turn();
                obeyed = 0;
            }
        }
    }

    /// One round: begin what is due, wait, apply what came.
    pub(crate) fn turn(&mut self) {
        self.begin_due();
        self.wait();
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.apply(completion);
        }
        self.completions = completions;
    }

    pub(crate) fn obey(&mut self, command: Command) {
        match command {
            Command::Add(new) => drop(self.add(*new)),
            Command::Attach(id, file) => self.attach(id, file),
            Command::Remove(id) => self.remove(id),
            Command::Pause(id, paused) => self.pause(id, paused),
            Command::CheckNow(id) => {
                if let Some(&key) = self.keys.get(&id) {
                    self.begin(key, self.backend.now());
                }
            }
            Command::Answer(reply) => drop(reply.send(())),
            Command::Subscribe(subscriber) => self.subscribers.push(subscriber),
            Command::Stop(..) => unreachable!("taken by run"),
        }
    }

    /// Watches a path; `None` when the backend can't take its file.
    pub(crate) fn add(&mut self, new: NewPath) -> Option<Key> {
        let NewPath {
            id,
            device,
            cell,
            once,
        } = new;
        let target = match self.backend.attach(device.file) {
            Ok(target) => target,
            Err(error) => {
                tracing::error!(path = %cell.info().name().display(), %error, "not watched");
                if let Some(once) = once {
                    let why = Why::Refused(error.errno);
                    let _ = once
                        .report
                        .send((id, Verdict::Unknown { why }, State::Pending));
                }
                return None;
            }
        };
        let pace = Pace::new(self.tempo.interval, self.added);
        self.added = self.added.wrapping_add(1);
        let mut path = Watched::new(id, target, (device.geometry, device.evidence), cell, pace);
        path.once = once;
        let key = self.paths.insert(path);
        self.keys.insert(id, key);
        // All may complete at once; a check is to find room for that.
        self.completions.reserve(self.keys.len());
        self.begin(key, self.backend.now());
        Some(key)
    }

    fn remove(&mut self, id: PathId) {
        let Some(path) = self.keys.remove(&id).and_then(|key| self.paths.remove(key)) else {
            return;
        };
        // What can't be cancelled ends whenever it does: its completion finds no path.
        if let Some(read) = path.read {
            self.backend.cancel(read);
        }
        if !path.nowait {
            self.blocking -= 1;
        }
        self.running -= usize::from(path.check.is_some());
        if let Some(target) = path.target {
            self.backend.detach(target);
        }
    }

    fn pause(&mut self, id: PathId, paused: bool) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if let Some(transition) = path.health.pause(paused) {
            self.announce(key, transition, String::new());
            self.begin(key, self.backend.now());
        }
    }

    /// Begins what the schedule and the pauses of checks have come to.
    fn begin_due(&mut self) {
        let now = self.backend.now();
        let mut due = std::mem::take(&mut self.due);
        self.schedule.take_due(now, &mut due);
        let mut clock = now;
        for (nth, (time, key)) in due.drain(..).enumerate() {
            if nth % BEGUN_PER_CLOCK == BEGUN_PER_CLOCK - 1 {
                clock = self.backend.now();
            }
            if self.paths.get(key).is_some_and(|path| path.due == time) {
                self.begin(key, clock);
            }
        }
        self.due = due;
        while let Some(&Reverse((time, key))) = self.retries.peek() {
            if time > now {
                break;
            }
            self.retries.pop();
            self.go_on(key, now, |check, path| {
                check.again(now, || path.evidence.counters())
            });
        }
    }

    /// Begins a check, unless something speaks against it, and plans the next one. Says whether it
    /// began.
    pub(crate) fn begin(&mut self, key: Key, now: Mono) -> bool {
        let Some(path) = self.paths.get_mut(key) else {
            return false;
        };
        let next = path.pace.next_after(now);
        if path.once.is_none() && path.planned != next {
            path.planned = next;
            path.due = self.schedule.insert(next, key);
        }
        if !path.is_free(now, self.tempo.timeout) {
            return false;
        }
        let timeout = match &path.once {
            Some(once) => once.deadline.since(now),
            None => self.tempo.timeout,
        };
        let verdict = match (path.evidence.link(), path.stuck) {
            (LinkState::Offline, _) => Verdict::Offline,
            (LinkState::Standby, _) => Verdict::Standby,
            // The stuck read is this check's, too: a second one would only be stuck behind it.
            (LinkState::Running, Some(Stuck { stage, .. })) => Verdict::TimedOut { stage },
            (LinkState::Running, None) => {
                let block = path.geometry.block;
                let is_file = matches!(path.cell.info().device(), DeviceId::File { .. });
                let check = Check::new(now, timeout, block, path.nowait);
                path.check = Some(check.in_filesystem(is_file));
                self.running += 1;
                self.go_on(key, now, |check, _| check.read(now));
                return true;
            }
        };
        self.conclude(key, verdict, now);
        true
    }

    /// Waits for completions, a command, or what is due next.
    fn wait(&mut self) {
        let retry = self.retries.peek().map(|entry| entry.0.0);
        let until = match (self.schedule.next(), retry) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if self.broken.is_some() {
            return self.wait_for_commands(until);
        }
        if let Err(error) = self.backend.wait(until, &mut self.completions) {
            self.fall_back(error);
        }
    }

    /// With a broken backend: whatever is asked of it is refused, and verdicts are Unknown.
    fn wait_for_commands(&mut self, until: Option<Mono>) {
        let limit = until.map_or(Duration::from_secs(1), |until| until.since(Mono::now()));
        self.next_command = self.commands.recv_timeout(limit).ok();
    }

    /// Applies what the backend said to the path it is about.
    fn apply(&mut self, completion: Completion) {
        let key = Key::from_bits(completion.token);
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if let Outcome::Late(result) = completion.outcome {
            if path.stuck.is_some_and(|stuck| stuck.id == completion.id) {
                self.unstick(key, result.is_ok(), completion.at);
            }
            return;
        }
        if path.read != Some(completion.id) {
            return;
        }
        path.read = None;
        if let Outcome::Expired(stage) = completion.outcome {
            path.stuck = Some(Stuck {
                id: completion.id,
                submitted: path.check.as_ref().map_or(completion.at, Check::submitted),
                since: completion.at,
                stage,
            });
            path.cell.set_stuck(Some(completion.at));
        }
        self.go_on(key, completion.at, |check, path| {
            check.ended(completion.outcome, completion.at, || {
                path.evidence.counters()
            })
        });
    }

    /// A stuck read ended: the path may be read again, and is, at once.
    fn unstick(&mut self, key: Key, answered: bool, at: Mono) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let since = path.stuck.take().map_or(at, |stuck| stuck.since);
        path.cell.set_stuck(None);
        let state = path.health.state();
        let how = if answered { "an answer" } else { "an error" };
        let late = Transition {
            from: state,
            to: state,
            cause: Cause::LateAnswer,
        };
        let detail = format!(
            "the stuck read ended with {how} {:.1} s after its deadline",
            at.since(since).as_secs_f64()
        );
        self.announce(key, late, detail);
        self.begin(key, at);
    }

    /// Asks a check for its next step and takes it.
    fn go_on(&mut self, key: Key, now: Mono, next: impl FnOnce(&mut Check, &Watched) -> Step) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let Some(mut check) = path.check.take() else {
            return;
        };
        let step = match next(&mut check, path) {
            Step::Read { nowait, place } => {
                let Some(target) = path.target else {
                    self.running -= 1;
                    return self.conclude(key, Verdict::Unknown { why: Why::Broken }, now);
                };
                let op = Op {
                    target,
                    offset: path.geometry.offset(place),
                    len: path.geometry.block,
                    deadline: check.deadline(),
                    nowait,
                    token: key.to_bits(),
                };
                match self.backend.submit(op) {
                    Ok(id) => {
                        path.read = Some(id);
                        path.check = Some(check);
                        return;
                    }
                    Err(rejected) => check.refused(rejected.why, now),
                }
            }
            step => step,
        };
        self.learn_nowait(key, check.nowait());
        match step {
            Step::Pause(until) => {
                self.retries.push(Reverse((until, key)));
                if let Some(path) = self.paths.get_mut(key) {
                    path.check = Some(check);
                }
            }
            Step::End(verdict) => {
                self.running -= 1;
                self.conclude(key, verdict, now);
            }
            Step::Read { .. } => unreachable!("a refused read is not tried again at once"),
        }
    }

    fn learn_nowait(&mut self, key: Key, nowait: bool) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if path.nowait && !nowait {
            path.nowait = false;
            self.blocking += 1;
            self.backend.expect_blocking(self.blocking);
        }
    }

    /// A check has ended in its verdict.
    fn conclude(&mut self, key: Key, verdict: Verdict, now: Mono) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        path.check = None;
        path.read = None;
        path.cell.count(&verdict);
        if verdict.is_of_read() || !path.nowait {
            path.cell.set_nowait(path.nowait);
        }
        let transition = path.health.apply(&verdict, now, &self.tempo.rules);
        let (state, cause) = (path.health.state(), path.health.cause());
        #[cfg(test)]
        self.verdicts.push((path.id, now, verdict, state));
        match transition {
            Some(transition) => self.announce(key, transition, verdict.to_string()),
            None => path.cell.set_cause(state, cause),
        }
        self.after(key, verdict, now);
    }

    /// Sees to what follows from a verdict: a report, or an early next check.
    fn after(&mut self, key: Key, verdict: Verdict, now: Mono) {
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if let Some(once) = path.once.take() {
            let _ = once.report.send((path.id, verdict, path.health.state()));
            path.due = Mono::ZERO;
            return;
        }
        let soon = path.pace.soon(now);
        if path.health.is_undecided() && path.stuck.is_none() && soon < path.due {
            path.planned = soon;
            path.due = self.schedule.insert(soon, key);
        }
    }

    /// Writes a change into the path's status and tells everyone who wants to know.
    fn announce(&mut self, key: Key, transition: Transition, detail: String) {
        let Some(path) = self.paths.get(key) else {
            return;
        };
        let time = SystemTime::now();
        if transition.from != transition.to {
            path.cell.set_state(transition.to, transition.cause, time);
        }
        let event = Event {
            time,
            path: path.cell.info().clone(),
            from: transition.from,
            to: transition.to,
            cause: transition.cause,
            detail,
        };
        self.subscribers
            .retain(|subscriber| subscriber.tell(&event));
    }

    /// The time on the backend's clock.
    pub(crate) fn now(&self) -> Mono {
        self.backend.now()
    }

    /// Whether any check is going on.
    pub(crate) fn is_checking(&self) -> bool {
        self.running > 0
    }

    /// What the backend holds and did.
    pub(crate) fn stats(&self) -> Stats {
        self.backend.stats()
    }

    fn shut_down(&mut self, deadline: Mono) -> usize {
        match self.backend.shutdown(deadline) {
            Shutdown::Drained => 0,
            Shutdown::Quarantined(held) => held,
        }
    }
}

#[path = "fallback.rs"]
mod fallback;
#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
