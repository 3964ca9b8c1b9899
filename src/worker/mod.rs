//! The only loop: wait, apply completions, begin what is due.
//!
//! A worker owns a backend and some of the paths, and does nothing but check them. It is the only
//! writer of their status. It waits in one place only, in its backend. It reads the kernel's
//! statistics in sysfs, which never wait for a device, and never waits for a reader of its events.
//!
//! Here are the loop and the messages. How a check runs is in `worker/checks.rs`, what it publishes
//! in `worker/publish.rs`, how the paths of a group are judged together in `worker/groups.rs`.
//! Decisions are made elsewhere: verdicts and states in `health/`, what is due in `schedule/`.

mod checks;
mod env;
mod fallback;
mod groups;
mod handle;
#[cfg(test)]
mod hung;
mod message;
mod names;
mod path_runtime;
mod pause;
mod publish;
mod reopen;
#[cfg(test)]
mod simulation;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use pathpulse_kernel_compat::{
    Backend, Closing, Completion, Key, Mono, Outcome, Shutdown, Stats, Table,
};

use crate::health::{Check, Nowait, State};
use crate::schedule::{LOGGED_GAP_MIN, Phases};
use crate::settings::Settings;
use crate::status::{GroupCell, PathId, Progress, StatusCell};
use checks::{CheckedPath, Checker};
pub(crate) use env::{BackendHandle, Supervision, WorkerEnv};
pub(crate) use handle::{Surroundings, WorkerHandle, start_worker};
pub(crate) use message::{AdoptedPath, NewPath, OnceChecks, WorkerMsg};
pub(crate) use names::NameWatch;
use path_runtime::PathRuntime;

/// A flood of messages must not keep completions waiting.
const MESSAGES_PER_TICK: u32 = 64;

/// At most so many checks begin with one reading of the clock, before completions are handled: the
/// time that it takes to begin them adds to the latency measured of each.
pub(crate) const BEGUN_PER_TICK: usize = 64;

/// Checks its paths. See the module.
pub(crate) struct Worker {
    checker: Checker,
    paths: Table<PathRuntime>,
    keys: HashMap<PathId, Key>,
    /// All settings in use: many paths share one.
    settings: Vec<Arc<Settings>>,
    /// Where in their intervals the checks of the paths lie.
    phases: Phases,
    messages: Receiver<WorkerMsg>,
    /// Received while waiting without a backend, and handled next.
    next_message: Option<WorkerMsg>,
    /// Who opens files and knows all paths; `None` in simulations.
    env: Option<WorkerEnv>,
    /// When the last wait began.
    wait_began: Mono,
    /// The end of the last scheduling gap that was logged.
    logged_gap: Mono,
    /// Reused, so that a check allocates nothing.
    completions: Vec<Completion>,
}

impl Worker {
    /// A worker without paths. `usual` are the settings that most paths will have.
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        usual: Settings,
        messages: Receiver<WorkerMsg>,
        env: Option<WorkerEnv>,
    ) -> Worker {
        Worker {
            checker: Checker::new(backend, usual.interval),
            paths: Table::default(),
            keys: HashMap::new(),
            settings: Vec::new(),
            phases: Phases::default(),
            messages,
            next_message: None,
            env,
            wait_began: Mono::ZERO,
            logged_gap: Mono::ZERO,
            completions: Vec::new(),
        }
    }

    /// Runs until a message says stop, or all senders are gone.
    pub(crate) fn run(mut self, progress: Arc<Progress>) {
        self.checker.progress = progress;
        let mut handled = 0;
        loop {
            let next = self.next_message.take();
            match next.map_or_else(|| self.messages.try_recv(), Ok) {
                Ok(WorkerMsg::Stop(deadline, reply)) => {
                    let _ = reply.send(self.shut_down(deadline));
                    return;
                }
                Ok(message) => self.handle(message),
                Err(TryRecvError::Empty) => handled = MESSAGES_PER_TICK,
                Err(TryRecvError::Disconnected) => return,
            }
            handled += 1;
            if handled == MESSAGES_PER_TICK {
                // More messages may be queued, and their wake-up was consumed: don't wait.
                self.checker.backend.waker().wake();
            }
            if handled >= MESSAGES_PER_TICK {
                self.tick();
                handled = 0;
            }
        }
    }

    /// One round: begin what is due, wait, apply what completed.
    pub(crate) fn tick(&mut self) {
        self.begin_due();
        let until = self.checker.next_wake();
        self.wait_and_apply(until);
    }

    /// Applies what has completed by now, without waiting.
    pub(crate) fn poll(&mut self) {
        self.wait_and_apply(Some(Mono::ZERO));
    }

    /// A tick that does not wait when no check is in progress: for a worker without messages and
    /// without a timetable.
    pub(crate) fn tick_while_checking(&mut self) {
        self.begin_due();
        if self.is_checking() {
            let until = self.checker.next_wake();
            self.wait_and_apply(until);
        }
    }

    fn wait_and_apply(&mut self, until: Option<Mono>) {
        self.wait(until);
        let mut completions = std::mem::take(&mut self.completions);
        #[cfg(test)]
        self.checker.recorder.shuffle(&mut completions);
        self.note_late_deadlines(&completions);
        for completion in completions.drain(..) {
            self.apply(completion);
        }
        self.completions = completions;
        self.judge_groups();
        self.reopen_collected();
        let stats = self.checker.backend.stats();
        self.checker.progress.publish(self.keys.len(), stats);
    }

    /// Handles any message but [`WorkerMsg::Stop`].
    pub(crate) fn handle(&mut self, message: WorkerMsg) {
        match message {
            WorkerMsg::Add(new) => drop(self.add(*new)),
            WorkerMsg::Adopt(adopted) => self.adopt(*adopted),
            WorkerMsg::Reopened(id, found) => self.reopened(id, found),
            WorkerMsg::Remove(id, closing) => self.remove(id, &closing),
            WorkerMsg::Change(id, settings) => self.change(id, *settings),
            WorkerMsg::Pause(id, closing) => self.pause(id, &closing),
            WorkerMsg::Resume(id) => self.resume(id),
            WorkerMsg::CheckNow(id) => {
                if let Some(mut path) = self.find(id) {
                    let now = path.checker.backend.now();
                    path.begin(now);
                }
            }
            WorkerMsg::Answer(reply) => drop(reply.send(())),
            WorkerMsg::Subscribe(subscriber) => self.checker.subscribers.push(subscriber),
            WorkerMsg::Stop(..) => unreachable!("taken by run"),
        }
    }

    /// Borrows a path for a step of its check.
    fn checked(&mut self, key: Key) -> Option<CheckedPath<'_>> {
        let path = self.paths.get_mut(key)?;
        let checker = &mut self.checker;
        Some(CheckedPath { key, path, checker })
    }

    /// As [`Worker::checked`], by the id of the path.
    fn find(&mut self, id: PathId) -> Option<CheckedPath<'_>> {
        let key = *self.keys.get(&id)?;
        self.checked(key)
    }

    /// Watches a path from now on.
    pub(crate) fn add(&mut self, new: NewPath) -> Key {
        let mut path = self.new_path(new.id, new.cell, new.settings, new.group);
        let submission = new.device.submission;
        let file = path.take_device(new.device);
        path.target = Some(self.checker.backend.attach(file, submission));
        path.once = new.once;
        let key = self.enter(path);
        self.begin(key, self.checker.backend.now());
        key
    }

    /// Continues to watch a path of another reader.
    fn adopt(&mut self, adopted: AdoptedPath) {
        let mut path = self.new_path(adopted.id, adopted.cell, adopted.settings, adopted.group);
        path.continue_from_cell(self.checker.backend.now());
        let is_paused = path.health.state() == State::Paused;
        let key = self.enter(path);
        if !is_paused {
            self.checker.to_reopen.push(key);
            self.plan_first(key);
        }
    }

    /// A path that is not in the table yet.
    fn new_path(
        &mut self,
        id: PathId,
        cell: Arc<StatusCell>,
        settings: Settings,
        group: Arc<GroupCell>,
    ) -> PathRuntime {
        let settings = self.shared(settings);
        self.checker.schedule.refine_for(settings.interval);
        let timing = self.phases.assign(settings.interval);
        PathRuntime::new(id, cell, (settings, timing), group)
    }

    /// Puts a path into the tables.
    fn enter(&mut self, path: PathRuntime) -> Key {
        let (id, group) = (path.id, path.latencies.name().map(str::to_owned));
        let key = self.paths.insert(path);
        self.keys.insert(id, key);
        if let Some(name) = group {
            self.join_group(key, &name);
        }
        // All checks may complete at once, and applying them must not allocate.
        self.completions.reserve(self.keys.len());
        key
    }

    /// Watches a path no longer; `closing` learns when its file is closed.
    fn remove(&mut self, id: PathId, closing: &Sender<Closing>) {
        let Some(mut path) = self.find(id) else {
            return;
        };
        path.end_check();
        let key = path.key;
        self.leave_group(key);
        self.keys.remove(&id);
        let Some(path) = self.paths.remove(key) else {
            return;
        };
        // The completion of a read that can't be cancelled will find no path.
        if let Some(read) = path.read {
            self.checker.backend.cancel(read);
        }
        if let Some(target) = path.target {
            let _ = closing.send(self.checker.backend.detach(target));
        }
        let was_blocking = path.nowait == Nowait::Unsupported;
        self.checker.count_blocking(was_blocking, false);
        self.phases.release(path.settings.interval, path.timing);
        let paths = self.keys.len();
        debug_assert_eq!(paths, self.phases.paths(), "a path without a phase");
        debug_assert_eq!(paths, self.paths.len(), "a path without a key");
    }

    /// Gives a path other settings, which changes neither its state nor a check in progress.
    fn change(&mut self, id: PathId, settings: Settings) {
        let settings = self.shared(settings);
        let Some(key) = self.keys.get(&id).copied() else {
            return;
        };
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        self.checker.schedule.refine_for(settings.interval);
        let now = self.checker.backend.now();
        let before = std::mem::replace(&mut path.settings, settings);
        let pace = |settings: &Settings| (settings.interval, settings.backoff_max);
        let checker = &mut self.checker;
        let mut one = CheckedPath { key, path, checker };
        if pace(&one.path.settings) != pace(&before) {
            self.phases.release(before.interval, one.path.timing);
            one.path.timing = self.phases.assign(one.path.settings.interval);
            let next = one.path.next_check(now);
            one.reschedule_earlier(next);
        }
        // A check in progress keeps the timeout that it began with.
        let path = one.path;
        let in_progress = path.check.as_ref().map(Check::deadline);
        let due = path.due.max(now).max(in_progress.unwrap_or(now));
        path.cell.expect_verdict(due, path.settings.timeout);
    }

    /// The shared copy of these settings.
    fn shared(&mut self, settings: Settings) -> Arc<Settings> {
        if let Some(known) = self.settings.iter().find(|known| ***known == settings) {
            return Arc::clone(known);
        }
        self.settings.retain(|known| Arc::strong_count(known) > 1);
        let settings = Arc::new(settings);
        self.settings.push(Arc::clone(&settings));
        settings
    }

    /// Waits for completions or a message, but not beyond `until`.
    fn wait(&mut self, until: Option<Mono>) {
        if self.checker.broken.is_some() {
            self.checker.progress.set_wake_at(None);
            return self.wait_for_messages(until);
        }
        let from = self.checker.backend.now();
        let progress = &self.checker.progress;
        progress.set_wake_at(until.map(|until| until.max(from)));
        if let Err(error) = self.checker.backend.wait(until, &mut self.completions) {
            self.fall_back(error);
        }
        let now = self.checker.backend.now();
        self.checker.progress.set_wake_at(Some(now));
        self.wait_began = from;
        let late = self.checker.gap.note_wait(from, until, now);
        self.log_gap(late);
    }

    /// The kernel wakes this thread at the deadline of a read. If it runs only long afterwards,
    /// this process did not run in between.
    fn note_late_deadlines(&mut self, completions: &[Completion]) {
        for completion in completions {
            if !matches!(completion.outcome, Outcome::Expired(_)) {
                continue;
            }
            let path = self.paths.get(Key::from_bits(completion.token));
            let check = path.and_then(|path| path.check.as_ref());
            if let Some(deadline) = check.map(Check::deadline) {
                let gap = &mut self.checker.gap;
                let missed = gap.note_missed_deadline(self.wait_began, deadline, completion.at);
                self.log_gap(missed);
            }
        }
    }

    /// Logs a scheduling gap, once.
    fn log_gap(&mut self, late: Option<Duration>) {
        let Some(late) = late.filter(|late| *late > LOGGED_GAP_MIN) else {
            return;
        };
        let end = self.checker.gap.end();
        if std::mem::replace(&mut self.logged_gap, end) != end {
            tracing::warn!(
                late_ms = late.as_millis(),
                "did not run for a while (suspended, stopped or starved); checks that were to end meanwhile say nothing"
            );
        }
    }

    /// Waits without a backend: each check that begins meanwhile ends with `Unknown`.
    fn wait_for_messages(&mut self, until: Option<Mono>) {
        let limit = until.map_or(Duration::from_secs(1), |until| until.since(Mono::now()));
        self.next_message = self.messages.recv_timeout(limit).ok();
    }

    /// The time on the backend's clock.
    pub(crate) fn now(&self) -> Mono {
        self.checker.backend.now()
    }

    /// Whether any check is in progress.
    pub(crate) fn is_checking(&self) -> bool {
        self.checker.running > 0
    }

    /// What the backend holds and did.
    pub(crate) fn stats(&self) -> Stats {
        self.checker.backend.stats()
    }

    fn shut_down(&mut self, deadline: Mono) -> usize {
        match self.checker.backend.shutdown(deadline) {
            Shutdown::Drained => 0,
            Shutdown::Quarantined(held) => held,
        }
    }
}
