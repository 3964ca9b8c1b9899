//! The only loop: wait, apply, act.
//!
//! A worker owns a backend and some of the paths, and does nothing but check them. It is the only
//! writer of their status. It waits in one place only, in its backend; it reads the kernel's
//! statistics in sysfs, which wait for nothing; it never waits for a reader of its events.
//!
//! Here are the loop and the commands. How a check goes is in `worker/checks.rs`, what peers do to
//! each other in `worker/groups.rs`. What a verdict is is decided in `health/check.rs`, what verdicts add up to in
//! `health/state.rs` and `health/peers.rs`, and what is due in `schedule/wheel.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::{
    Backend, Closing, Completion, KernelError, Key, Mono, Op, Outcome, Shutdown, Stats, Table,
};

use crate::health::{
    Cause, Check, DeviceProbe, LinkState, Nowait, State, Step, UnknownReason, Verdict,
};
use crate::schedule::{LATE_REMARKABLE, Phases, Schedule, SchedulingGap};
use crate::settings::Settings;
use crate::status::{Event, PathId, Progress, Subscriber};
use groups::Groups;
pub(crate) use handle::{WorkerHandle, start_worker};
pub(crate) use message::{Command, NewPath, OnceChecks};
pub(crate) use names::NameWatch;
use path_runtime::{PathRuntime, Stuck};
pub(crate) use reopen::{BackendHandle, WorkerEnv};

/// A flood of commands must not keep completions waiting.
const COMMANDS_PER_TICK: u32 = 64;

/// Of many checks that are due together so many begin, by one reading of the clock, before what has
/// ended is looked at: the latency that is measured of each is off by what these take to begin.
pub(crate) const BEGUN_PER_TICK: usize = 64;

/// Checks its paths. See the module.
pub(crate) struct Worker {
    backend: Box<dyn Backend>,
    paths: Table<PathRuntime>,
    keys: HashMap<PathId, Key>,
    groups: Groups,
    /// All that are in use: many paths share one.
    settings: Vec<Arc<Settings>>,
    /// Where in their intervals the checks of paths lie.
    phases: Phases,
    /// Paths that are read without RWF_NOWAIT.
    blocking: usize,
    /// Checks that are going on.
    running: usize,
    schedule: Schedule<Key>,
    retries: BinaryHeap<Reverse<(Mono, Key)>>,
    commands: Receiver<Command>,
    /// Taken while waiting, to be handled next.
    next_command: Option<Command>,
    subscribers: Vec<Subscriber>,
    /// The world outside; simulations have none.
    env: Option<WorkerEnv>,
    /// Paths whose device is gone, to be opened anew by their names.
    gone: Vec<Key>,
    stall: SchedulingGap,
    /// When the last wait began.
    waits_since: Mono,
    /// The end of the last gap that the log was told of.
    told_gap: Mono,
    progress: Arc<Progress>,
    /// Why the backend no longer works.
    broken: Option<KernelError>,
    /// Reused, so that a check allocates nothing.
    completions: Vec<Completion>,
    /// Due, and not begun yet.
    due: VecDeque<(Mono, Key)>,
    #[cfg(test)]
    pub(crate) probe: simulation::Probe,
}

impl Worker {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        usual: Settings,
        commands: Receiver<Command>,
        env: Option<WorkerEnv>,
    ) -> Worker {
        Worker {
            backend,
            paths: Table::default(),
            keys: HashMap::new(),
            groups: Groups::default(),
            settings: Vec::new(),
            phases: Phases::default(),
            blocking: 0,
            running: 0,
            schedule: Schedule::new(usual.interval),
            retries: BinaryHeap::new(),
            commands,
            next_command: None,
            subscribers: Vec::new(),
            env,
            gone: Vec::new(),
            stall: SchedulingGap::default(),
            waits_since: Mono::ZERO,
            told_gap: Mono::ZERO,
            progress: Arc::default(),
            broken: None,
            completions: Vec::new(),
            due: VecDeque::new(),
            #[cfg(test)]
            probe: simulation::Probe::default(),
        }
    }

    /// Works until it is told to stop, or nobody is left who could tell it anything.
    pub(crate) fn run(mut self, progress: Arc<Progress>) {
        self.progress = progress;
        let mut handled = 0;
        loop {
            let next = self.next_command.take();
            match next.map_or_else(|| self.commands.try_recv(), Ok) {
                Ok(Command::Stop(deadline, reply)) => {
                    let _ = reply.send(self.shut_down(deadline));
                    return;
                }
                Ok(command) => self.handle(command),
                Err(TryRecvError::Empty) => handled = COMMANDS_PER_TICK,
                Err(TryRecvError::Disconnected) => return,
            }
            handled += 1;
            if handled == COMMANDS_PER_TICK {
                // There may be more commands, and their wake-up was taken: don't wait.
                self.backend.waker().wake();
            }
            if handled >= COMMANDS_PER_TICK {
                self.tick();
                handled = 0;
            }
        }
    }

    /// One round: begin what is due, wait, apply what came.
    pub(crate) fn tick(&mut self) {
        self.begin_due();
        let until = self.next_moment();
        self.wait_and_apply(until);
    }

    /// Applies what has come by now.
    pub(crate) fn poll(&mut self) {
        self.wait_and_apply(Some(Mono::ZERO));
    }

    /// A turn of a worker that nobody tells anything and that has no timetable: when what began it
    /// has ended its last check, there is nothing to wait for.
    pub(crate) fn tick_while_checking(&mut self) {
        self.begin_due();
        if self.is_checking() {
            let until = self.next_moment();
            self.wait_and_apply(until);
        }
    }

    fn wait_and_apply(&mut self, until: Option<Mono>) {
        self.wait(until);
        let mut completions = std::mem::take(&mut self.completions);
        #[cfg(test)]
        self.probe.shuffle(&mut completions);
        self.note_late_deadlines(&completions);
        for completion in completions.drain(..) {
            self.apply(completion);
        }
        self.completions = completions;
        self.settle_groups();
        self.reopen_gone();
        self.progress.publish(self.keys.len(), self.backend.stats());
    }

    pub(crate) fn handle(&mut self, command: Command) {
        match command {
            Command::Add(new) => {
                self.add(*new);
            }
            Command::Reopened(id, found) => self.reopened(id, found),
            Command::Remove(id, told) => self.remove(id, &told),
            Command::Change(id, settings) => self.change(id, *settings),
            Command::Pause(id, told) => self.pause(id, &told),
            Command::Resume(id) => self.resume(id),
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

    /// Watches a path.
    pub(crate) fn add(&mut self, new: NewPath) -> Key {
        let settings = self.share(new.settings);
        self.schedule.suit(settings.interval);
        let timing = self.phases.enter(settings.interval);
        let mut path = PathRuntime::new(new.id, new.cell, (settings, timing), new.group);
        let submission = new.device.submission;
        let file = path.take_device(new.device);
        path.target = Some(self.backend.attach(file, submission));
        path.once = new.once;
        let group = path.latencies.name().map(str::to_owned);
        let key = self.paths.insert(path);
        self.keys.insert(new.id, key);
        if let Some(name) = group {
            self.join(key, &name);
        }
        // All may complete at once; a check is to find room for that.
        self.completions.reserve(self.keys.len());
        self.begin(key, self.backend.now());
        key
    }

    fn remove(&mut self, id: PathId, told: &Sender<Closing>) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        self.part(key);
        self.keys.remove(&id);
        self.end_check(key);
        let Some(path) = self.paths.remove(key) else {
            return;
        };
        // What can't be cancelled ends whenever it does: its completion finds no path.
        if let Some(read) = path.read {
            self.backend.cancel(read);
        }
        if let Some(target) = path.target {
            let _ = told.send(self.backend.detach(target));
        }
        self.count_blocking(path.nowait == Nowait::Missing, false);
        self.phases.leave(path.settings.interval, path.timing);
        debug_assert_eq!(
            self.keys.len(),
            self.phases.paths(),
            "a path without a place"
        );
        debug_assert_eq!(self.keys.len(), self.paths.len(), "a path without its key");
    }

    /// Watches a path in another way, which touches neither its state nor a check that is going on.
    fn change(&mut self, id: PathId, settings: Settings) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        let settings = self.share(settings);
        self.schedule.suit(settings.interval);
        let now = self.backend.now();
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut path.settings, settings);
        let Settings {
            interval,
            backoff_max,
            ..
        } = *path.settings;
        if (interval, backoff_max) != (before.interval, before.backoff_max) {
            self.phases.leave(before.interval, path.timing);
            path.timing = self.phases.enter(interval);
            let next = path.next_check(now);
            self.reschedule_earlier(key, next);
        }
        if let Some(path) = self.paths.get(key) {
            // A check that is going on keeps the timeout that it began with.
            let going_on = path.check.as_ref().map(Check::deadline);
            let due = path.due.max(now).max(going_on.unwrap_or(now));
            path.cell.expect_verdict(due, path.settings.timeout);
        }
    }

    /// The one copy of such settings.
    fn share(&mut self, settings: Settings) -> Arc<Settings> {
        if let Some(known) = self.settings.iter().find(|known| ***known == settings) {
            return Arc::clone(known);
        }
        self.settings.retain(|known| Arc::strong_count(known) > 1);
        let settings = Arc::new(settings);
        self.settings.push(Arc::clone(&settings));
        settings
    }

    /// When something is due next.
    fn next_moment(&mut self) -> Option<Mono> {
        if !self.due.is_empty() {
            return Some(Mono::ZERO);
        }
        let retry = self.retries.peek().map(|entry| entry.0.0);
        self.schedule.next().into_iter().chain(retry).min()
    }

    /// Waits for completions or a command, until then at the longest.
    fn wait(&mut self, until: Option<Mono>) {
        if self.broken.is_some() {
            self.progress.wakes_at(None);
            return self.wait_for_commands(until);
        }
        let from = self.backend.now();
        self.progress.wakes_at(until.map(|until| until.max(from)));
        if let Err(error) = self.backend.wait(until, &mut self.completions) {
            self.fall_back(error);
        }
        let now = self.backend.now();
        self.progress.wakes_at(Some(now));
        self.waits_since = from;
        let late = self.stall.waited(from, until, now);
        self.tell_gap(late);
    }

    /// The kernel wakes this thread at the deadline of a read: if it comes long after, nobody ran.
    fn note_late_deadlines(&mut self, completions: &[Completion]) {
        for completion in completions {
            if !matches!(completion.outcome, Outcome::Expired(_)) {
                continue;
            }
            let path = self.paths.get(Key::from_bits(completion.token));
            let check = path.and_then(|path| path.check.as_ref());
            if let Some(deadline) = check.map(Check::deadline) {
                let missed = self.stall.missed(self.waits_since, deadline, completion.at);
                self.tell_gap(missed);
            }
        }
    }

    /// Tells the log of a gap, once.
    fn tell_gap(&mut self, late: Option<Duration>) {
        let Some(late) = late.filter(|late| *late > LATE_REMARKABLE) else {
            return;
        };
        if std::mem::replace(&mut self.told_gap, self.stall.end()) != self.stall.end() {
            tracing::warn!(
                late_ms = late.as_millis(),
                "did not run for a while (suspended, stopped or starved); checks that were to end meanwhile say nothing"
            );
        }
    }

    /// With a broken backend: whatever is asked of it is refused, and verdicts are Unknown.
    fn wait_for_commands(&mut self, until: Option<Mono>) {
        let limit = until.map_or(Duration::from_secs(1), |until| until.since(Mono::now()));
        self.next_command = self.commands.recv_timeout(limit).ok();
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

mod checks;
mod fallback;
mod groups;
mod handle;
#[cfg(test)]
mod hung;
mod message;
mod names;
mod path_runtime;
mod pause;
mod reopen;
#[cfg(test)]
mod simulation;
