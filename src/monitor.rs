//! The handle by which a program watches paths: [`Monitor`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::{
    BackendKind, Choice, Errno, KernelError, Mono, Opened, RingFeatures, Unavailable, open_backend,
};

use crate::command::{Command, NewPath, Once, Tempo};
use crate::device::{Device, DeviceId, OpenError, OpenProblem};
use crate::event::EventStream;
use crate::health::Rules;
use crate::opener::open_all;
use crate::path::{PathId, PathInfo};
use crate::status::{PathStatus, StatusCell};
use crate::worker::{Carrier, Fallback, Worker};

/// Commands that may wait for a worker; whoever adds more waits, and the worker is soon there.
const COMMANDS: usize = 256;
/// What a backend that has to know makes room for at first.
const EXPECTED_PATHS: u32 = 64;
/// How long a worker may take to make room for the word that its monitor is dropped.
const DROP_LIMIT: Duration = Duration::from_millis(100);
/// How long a worker may take to open its backend, which makes no I/O to any device.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How a [`Monitor`] checks.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What carries the checks to the kernel.
    pub backend: Choice,
    /// Threads that check, each with a ring and a share of the paths; at least 1. One serves ten
    /// thousand paths.
    pub workers: usize,
    /// From check to check of a path; 1 ms and more.
    pub interval: Duration,
    /// How long a check may take; 1 ms and more.
    pub timeout: Duration,
    /// How verdicts become states.
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            backend: Choice::Auto,
            workers: 1,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            rules: Rules::default(),
        }
    }
}

/// What carries the checks to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Which backend.
    pub kind: BackendKind,
    /// Which of io_uring's features it uses, if it is one of io_uring.
    pub features: Option<RingFeatures>,
    /// The better backends that were tried before, and why they can't be used here.
    pub unavailable: Vec<Unavailable>,
}

impl BackendInfo {
    pub(crate) fn of(opened: &Opened) -> BackendInfo {
        BackendInfo {
            kind: opened.backend.kind(),
            features: opened.features,
            unavailable: opened.unavailable.clone(),
        }
    }
}

/// Why nothing can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The backends that were tried, and why none can be used here.
    NoBackend(Vec<Unavailable>),
    /// There is no thread to be had.
    NoThread(KernelError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoBackend(tried) => {
                let reasons: Vec<String> = tried.iter().map(ToString::to_string).collect();
                f.write_str(&reasons.join("; "))
            }
            StartError::NoThread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// What was left when a monitor was shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Reads that the kernel still has; their buffers are leaked on purpose.
    pub held_reads: usize,
    /// Workers that did not answer in time.
    pub silent_workers: usize,
}

struct WorkerHandle {
    commands: SyncSender<Command>,
    carrier: Arc<RwLock<Carrier>>,
}

impl WorkerHandle {
    /// Hands a command over; `false` when the worker is gone.
    fn tell(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.wake();
        sent
    }

    fn wake(&self) {
        self.carrier().waker.wake();
    }

    fn carrier(&self) -> RwLockReadGuard<'_, Carrier> {
        self.carrier.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`WorkerHandle::tell`], but waits no longer than `end` for room.
    fn tell_until(&self, mut command: Command, end: Instant) -> bool {
        loop {
            match self.commands.try_send(command) {
                Ok(()) => {
                    self.wake();
                    return true;
                }
                Err(TrySendError::Full(back)) if Instant::now() < end => command = back,
                Err(_) => return false,
            }
            // The standard channel can't wait for room with a limit; the worker makes some soon.
            self.wake();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Entry {
    cell: Arc<StatusCell>,
    worker: usize,
}

#[derive(Default)]
struct Registry {
    paths: BTreeMap<PathId, Entry>,
    devices: HashMap<DeviceId, PathId>,
    closed: bool,
}

/// Watches paths. All methods may be called from any thread; none waits for a device, but
/// [`Monitor::add`] as its text says.
///
/// Dropping it stops its workers without waiting; [`Monitor::shutdown`] says what was left.
pub struct Monitor {
    workers: Vec<WorkerHandle>,
    config: Config,
    registry: RwLock<Registry>,
    next_id: AtomicU64,
    started: Instant,
}

impl Monitor {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the kernel offers no way to check, with its reason.
    pub fn start(config: Config) -> Result<Monitor, StartError> {
        let tempo = Tempo {
            interval: config.interval.max(Duration::from_millis(1)),
            timeout: config.timeout.max(Duration::from_millis(1)),
            rules: config.rules,
        };
        let mut workers = Vec::new();
        for _ in 0..config.workers.max(1) {
            workers.push(start_worker(tempo, config.backend)?);
        }
        Ok(Monitor {
            workers,
            config,
            registry: RwLock::default(),
            next_id: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// Watches a path from now on.
    ///
    /// Opens it on this thread, which takes as long as the driver's open(2) does: for devices that
    /// may be stuck, [`Monitor::add_all`] has a limit.
    ///
    /// # Errors
    /// Why it can't be watched.
    pub fn add(&self, path: impl AsRef<Path>) -> Result<PathId, OpenError> {
        let path = path.as_ref();
        Device::open(path)
            .and_then(|device| self.watch(self.new_ids(1), path, device, None))
            .map_err(|problem| OpenError {
                path: path.to_owned(),
                problem,
            })
    }

    /// Watches many paths from now on, and waits for none of them longer than `limit`. The answers
    /// are in the order of the paths.
    pub fn add_all(&self, paths: &[PathBuf], limit: Duration) -> Vec<Result<PathId, OpenError>> {
        let deadline = Instant::now() + limit;
        let mut answers: Vec<_> = paths.iter().map(|_| None).collect();
        self.open_and_watch(paths, deadline, None, |index, answer| {
            answers[index] = Some(answer);
        });
        answers.into_iter().flatten().collect()
    }

    /// Opens paths on threads of their own, watches them, and tells `each` their answers.
    ///
    /// The descriptor of a path is needed only until its worker has it. So those that found none
    /// free are tried again, as long as that leads to anything.
    pub(crate) fn open_and_watch(
        &self,
        paths: &[PathBuf],
        deadline: Instant,
        once: Option<&dyn Fn() -> Once>,
        mut each: impl FnMut(usize, Result<PathId, OpenError>),
    ) {
        let first = self.new_ids(paths.len() as u64);
        let mut left: Vec<usize> = (0..paths.len()).collect();
        loop {
            let mut without: Vec<usize> = Vec::new();
            let names = left.iter().map(|index| paths[*index].clone()).collect();
            open_all(names, deadline, Device::open, |place, opened| {
                let (index, path) = (left[place], &paths[left[place]]);
                let id = PathId::from_number(first.number() + index as u64);
                let answer = opened
                    .unwrap_or(Err(OpenProblem::Blocked))
                    .and_then(|device| self.watch(id, path, device, once.map(|once| once())));
                match answer {
                    Err(OpenProblem::Open(Errno::EMFILE | Errno::ENFILE)) => without.push(index),
                    answer => each(
                        index,
                        answer.map_err(|problem| OpenError {
                            path: path.clone(),
                            problem,
                        }),
                    ),
                }
            });
            if without.len() == left.len() || Instant::now() >= deadline {
                for index in without {
                    let path = paths[index].clone();
                    let problem = OpenProblem::Open(Errno::EMFILE);
                    each(index, Err(OpenError { path, problem }));
                }
                return;
            }
            left = without;
            self.settle(deadline);
        }
    }

    /// Waits until the workers have obeyed what they were told so far.
    fn settle(&self, deadline: Instant) {
        let (reply, replies) = channel();
        for worker in &self.workers {
            worker.tell(Command::Answer(reply.clone()));
        }
        drop(reply);
        let left = || deadline.saturating_duration_since(Instant::now());
        while replies.recv_timeout(left()).is_ok() {}
    }

    /// The first of so many ids that nobody has.
    fn new_ids(&self, count: u64) -> PathId {
        PathId::from_number(self.next_id.fetch_add(count, Relaxed))
    }

    fn watch(
        &self,
        id: PathId,
        path: &Path,
        device: Device,
        once: Option<Once>,
    ) -> Result<PathId, OpenProblem> {
        let info = Arc::new(PathInfo::new(path.to_owned(), device.id));
        let cell = Arc::new(StatusCell::new(info));
        let worker = id.number() as usize % self.workers.len();
        {
            let mut registry = self.registry_mut();
            if registry.closed {
                return Err(OpenProblem::Closed);
            }
            if let Some(first) = registry.devices.get(&device.id) {
                let first = registry.paths[first].cell.info().name().to_owned();
                return Err(OpenProblem::Twice { first });
            }
            registry.devices.insert(device.id, id);
            let entry = Entry {
                cell: Arc::clone(&cell),
                worker,
            };
            registry.paths.insert(id, entry);
        }
        let new = NewPath {
            id,
            device,
            cell,
            once,
        };
        if self.workers[worker].tell(Command::Add(Box::new(new))) {
            Ok(id)
        } else {
            Err(OpenProblem::Closed)
        }
    }

    /// Watches a path no longer; `false` if it was not watched. A read that is stuck stays with the
    /// kernel, and nobody waits for it.
    pub fn remove(&self, id: PathId) -> bool {
        let entry = {
            let mut registry = self.registry_mut();
            let entry = registry.paths.remove(&id);
            if let Some(entry) = &entry {
                registry.devices.remove(&entry.cell.info().device());
            }
            entry
        };
        entry.is_some_and(|entry| self.workers[entry.worker].tell(Command::Remove(id)))
    }

    /// Stops checking a path; `false` if it is not watched.
    pub fn pause(&self, id: PathId) -> bool {
        self.tell_worker_of(id, Command::Pause(id, true))
    }

    /// Checks a paused path again, from `Pending` on; `false` if it is not watched.
    pub fn resume(&self, id: PathId) -> bool {
        self.tell_worker_of(id, Command::Pause(id, false))
    }

    /// Checks a path now instead of when it is due; `false` if it is not watched. A path whose
    /// check is going on, or whose read is stuck, is not checked a second time.
    pub fn check_now(&self, id: PathId) -> bool {
        self.tell_worker_of(id, Command::CheckNow(id))
    }

    fn tell_worker_of(&self, id: PathId, command: Command) -> bool {
        let worker = self.registry().paths.get(&id).map(|entry| entry.worker);
        worker.is_some_and(|worker| self.workers[worker].tell(command))
    }

    /// How a path is now; `None` if it is not watched.
    pub fn path(&self, id: PathId) -> Option<PathStatus> {
        Some(self.registry().paths.get(&id)?.cell.snapshot())
    }

    /// How all paths are now, in the order in which they were added.
    pub fn status(&self) -> Vec<(PathId, PathStatus)> {
        let registry = self.registry();
        let all = registry.paths.iter();
        all.map(|(id, entry)| (*id, entry.cell.snapshot()))
            .collect()
    }

    /// The path that was added under this name, if it is watched.
    pub fn find(&self, name: &Path) -> Option<PathId> {
        let registry = self.registry();
        let mut all = registry.paths.iter();
        all.find(|(_, entry)| entry.cell.info().name() == name)
            .map(|(id, _)| *id)
    }

    /// A stream of what happens from now on, with room for `capacity` events.
    pub fn events(&self, capacity: usize) -> EventStream {
        let (subscriber, stream) = EventStream::new(capacity);
        for worker in &self.workers {
            worker.tell(Command::Subscribe(subscriber.clone()));
        }
        stream
    }

    /// What carries the checks to the kernel, now: a worker whose backend breaks takes the best of
    /// its choice that still works.
    pub fn backend(&self) -> BackendInfo {
        self.workers[0].carrier().info.clone()
    }

    /// As it was started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Stops checking, cancels what can be cancelled, and returns within `limit`, whatever the
    /// devices do. Afterwards nothing can be added.
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        self.registry_mut().closed = true;
        let deadline = Mono::now() + limit;
        let end = Instant::now() + limit;
        let mut report = ShutdownReport::default();
        let (reply, replies) = channel();
        let mut waiting = 0;
        for worker in &self.workers {
            let stop = Command::Stop(deadline, reply.clone());
            let told = worker.tell_until(stop, end);
            waiting += usize::from(told);
            report.silent_workers += usize::from(!told);
        }
        drop(reply);
        while waiting > 0 {
            let left = end.saturating_duration_since(Instant::now()) + Duration::from_millis(20);
            match replies.recv_timeout(left) {
                Ok(held) => report.held_reads += held,
                Err(_) => {
                    report.silent_workers += waiting;
                    break;
                }
            }
            waiting -= 1;
        }
        report
    }

    fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let end = Instant::now() + DROP_LIMIT;
        for worker in &self.workers {
            worker.tell_until(Command::Stop(Mono::now(), channel().0), end);
        }
    }
}

/// Starts a thread that opens a backend, which must stay on it, and works. The thread is never
/// joined: leaving the kernel may take as long as a device likes.
fn start_worker(tempo: Tempo, choice: Choice) -> Result<WorkerHandle, StartError> {
    let (commands, inbox) = sync_channel(COMMANDS);
    let (ready, opened) = channel();
    let own_queue = commands.clone();
    let work = move || {
        let opened = match open_backend(choice, EXPECTED_PATHS) {
            Ok(opened) => opened,
            Err(tried) => return drop(ready.send(Err(StartError::NoBackend(tried)))),
        };
        let carrier = Arc::new(RwLock::new(Carrier {
            info: BackendInfo::of(&opened),
            waker: opened.backend.waker(),
        }));
        let fallback = Fallback {
            choice,
            carrier: Arc::clone(&carrier),
            commands: own_queue,
        };
        if ready.send(Ok(carrier)).is_ok() {
            Worker::new(opened.backend, tempo, inbox, Some(fallback)).run();
        }
    };
    thread::Builder::new()
        .name("pathpulse-worker".to_owned())
        .spawn(work)
        .map_err(|error| StartError::NoThread(KernelError::of("clone")(error)))?;
    let carrier = opened
        .recv_timeout(START_LIMIT)
        .map_err(|_| no_thread())??;
    Ok(WorkerHandle { commands, carrier })
}

fn no_thread() -> StartError {
    let error = KernelError::new("clone", Errno::EAGAIN).hint("a worker thread did not start");
    StartError::NoThread(error)
}
