//! The handle by which a program watches paths: [`Monitor`].

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::{Errno, Mono};

use crate::config::{BackendInfo, Config, ShutdownReport, StartError};
use crate::device::{Device, DeviceId, OpenError, OpenProblem, PendingOpens, open_all};
use crate::settings::{PathSpec, Settings};
use crate::status::{
    EventStream, GroupStatus, PathId, PathInfo, PathStatus, Registry, Released, RemovedPath,
    StatusCell, WorkerStatus,
};
use crate::worker::{NameWatch, NewPath, OnceChecks, WorkerHandle, WorkerMsg, start_worker};

/// How long a worker may take to make room for the word that its monitor is dropped.
const DROP_LIMIT: Duration = Duration::from_millis(100);
/// How long workers may take for what they were told, when descriptors are waited for.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long a worker waits for its reads when its monitor was dropped: a healthy device answers within
/// that, and nothing of the monitor is left then. What it leaves is leaked: the kernel may write to it.
const DROP_GRACE: Duration = Duration::from_millis(100);

/// Watches paths. All methods may be called from any thread; none waits for a device, but
/// [`Monitor::add`] as its text says.
///
/// Dropping it stops its workers without waiting for them: each ends once its reads have, or after 100 ms.
/// [`Monitor::shutdown`] waits, and says what was left.
pub struct Monitor {
    workers: Vec<WorkerHandle>,
    config: Config,
    registry: Arc<RwLock<Registry>>,
    /// One for all workers: names are the same to each.
    opens: Arc<PendingOpens>,
    /// Once there are paths that are watched for longer than one check.
    names: OnceLock<NameWatch>,
    /// Paths so far; the worker of the next one goes by it.
    entered: AtomicUsize,
    ending: Mutex<Ending>,
    started: Instant,
}

/// How far a shutdown is: who was told to stop, and what came of it.
#[derive(Default)]
struct Ending {
    /// A worker is told once only.
    told: Vec<bool>,
    /// Where those answer who were told.
    replies: Option<(Sender<usize>, Receiver<usize>)>,
    /// Those that have answered, or are gone.
    answered: usize,
    held_reads: usize,
}

impl Monitor {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the kernel offers no way to check, with its reason.
    pub fn start(config: Config) -> Result<Monitor, StartError> {
        let config = Config {
            workers: config.workers.max(1),
            settings: config.settings.within_limits(),
            ..config
        };
        let registry = Arc::new(RwLock::new(Registry::new(config.workers)));
        let (mut workers, opens) = (Vec::new(), Arc::default());
        for _ in 0..config.workers {
            workers.push(start_worker(&config, &registry, &opens)?);
        }
        Ok(Monitor {
            workers,
            config,
            registry,
            opens,
            names: OnceLock::new(),
            entered: AtomicUsize::new(0),
            ending: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// Watches a path from now on.
    ///
    /// PendingOpens it on this thread, which takes as long as the driver's open(2) does: for devices that
    /// may be stuck, [`Monitor::add_all`] has a limit.
    ///
    /// # Errors
    /// Why it can't be watched.
    pub fn add(&self, spec: impl Into<PathSpec>) -> Result<PathId, OpenError> {
        let spec = spec.into();
        Device::open(&spec.path)
            .and_then(|device| self.watch(PathId::allocate(1), &spec, device, None))
            .map_err(|problem| OpenError {
                path: spec.path.clone(),
                problem,
            })
    }

    /// Watches many paths from now on, and waits for none of them longer than `limit`. The answers
    /// are in the order of the paths.
    pub fn add_all(
        &self,
        specs: impl IntoIterator<Item = impl Into<PathSpec>>,
        limit: Duration,
    ) -> Vec<Result<PathId, OpenError>> {
        let deadline = Instant::now() + limit;
        let specs: Vec<PathSpec> = specs.into_iter().map(Into::into).collect();
        let mut answers: Vec<_> = specs.iter().map(|_| None).collect();
        self.open_and_watch(&specs, Some(deadline), None, |index, answer| {
            answers[index] = Some(answer);
        });
        answers.into_iter().flatten().collect()
    }

    /// As [`Monitor::add_all`], but hands on each answer as soon as it is there, with the place of its path
    /// in the list: those that do not open in time delay no other. [`Duration::MAX`] is no limit: it returns
    /// when all have opened, or failed to.
    pub fn add_each(
        &self,
        specs: &[PathSpec],
        limit: Duration,
        each: impl FnMut(usize, Result<PathId, OpenError>),
    ) {
        self.open_and_watch(specs, Instant::now().checked_add(limit), None, each);
    }

    /// PendingOpens paths on threads of their own, watches them, and tells `each` their answers.
    ///
    /// The descriptor of a path is needed only until its worker has it. So those that found none
    /// free are tried again, as long as that leads to anything.
    pub(crate) fn open_and_watch(
        &self,
        specs: &[PathSpec],
        deadline: Option<Instant>,
        once: Option<&OnceChecks>,
        mut each: impl FnMut(usize, Result<PathId, OpenError>),
    ) {
        let first = PathId::allocate(specs.len() as u64);
        let mut left: Vec<usize> = (0..specs.len()).collect();
        let error = |index: usize, problem| OpenError {
            path: specs[index].path.clone(),
            problem,
        };
        loop {
            let mut without: Vec<usize> = Vec::new();
            let names = left.iter().map(|index| specs[*index].path.clone());
            let devices = once.map(|once| Arc::clone(&once.devices));
            let open = move |_: usize, name: &Path| {
                Device::open_reporting(name, |device| {
                    if let Some(devices) = &devices {
                        let mut devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
                        devices.insert(name.to_owned(), device);
                    }
                })
            };
            open_all(
                names.collect(),
                deadline,
                &self.opens,
                open,
                |place, opened| {
                    let index = left[place];
                    let id = PathId::from_number(first.number() + index as u64);
                    let answer = opened
                        .unwrap_or(Err(OpenProblem::Blocked))
                        .and_then(|device| self.watch(id, &specs[index], device, once));
                    match answer {
                        Err(OpenProblem::Open(Errno::EMFILE | Errno::ENFILE)) => {
                            without.push(index);
                        }
                        answer => each(index, answer.map_err(|problem| error(index, problem))),
                    }
                },
            );
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if without.len() == left.len() || over {
                for index in without {
                    each(index, Err(error(index, OpenProblem::Open(Errno::EMFILE))));
                }
                return;
            }
            left = without;
            let soon = Instant::now() + SETTLE_LIMIT;
            self.settle_until(deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
    }

    /// Waits until the workers have handled what they were told so far, but no longer than `limit`.
    pub fn settle(&self, limit: Duration) {
        self.settle_until(Instant::now() + limit);
    }

    fn settle_until(&self, deadline: Instant) {
        let (reply, replies) = channel();
        for worker in &self.workers {
            worker.send_until(WorkerMsg::Answer(reply.clone()), deadline);
        }
        drop(reply);
        let left = || deadline.saturating_duration_since(Instant::now());
        while replies.recv_timeout(left()).is_ok() {}
    }

    fn watch(
        &self,
        id: PathId,
        spec: &PathSpec,
        device: Device,
        once: Option<&OnceChecks>,
    ) -> Result<PathId, OpenProblem> {
        // A path that is checked once is judged alone.
        let group = match once {
            Some(_) => None,
            None => spec.group.clone().or_else(|| device.storage.clone()),
        };
        let info = PathInfo::new(spec.path.clone(), device.identity.device, group.as_deref())
            .with_details(device.details.clone());
        let cell = Arc::new(StatusCell::new(Arc::new(info)));
        let settings = spec.settings.unwrap_or(self.config.settings);
        let settings = settings.within_limits();
        // Before its worker knows of it: it may never come to that.
        cell.expect_verdict(Mono::now(), settings.timeout);
        let any_worker = self.entered.fetch_add(1, Relaxed) % self.workers.len();
        let (worker, group) = self.registry_mut().insert(
            id,
            &cell,
            (device.storage.clone(), device.identity),
            any_worker,
        )?;
        if once.is_none() {
            self.names.get_or_init(|| self.watch_names());
        }
        let new = NewPath {
            id,
            device,
            cell,
            settings,
            group,
            once: once.map(|once| Box::new(once.one())),
        };
        if self.workers[worker].send(WorkerMsg::Add(Box::new(new))) {
            Ok(id)
        } else {
            Err(OpenProblem::Closed)
        }
    }

    fn watch_names(&self) -> NameWatch {
        let workers = self.workers.iter().map(|worker| worker.env.clone());
        let registry = Arc::clone(&self.registry);
        let all = move || {
            registry
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .names()
        };
        NameWatch::start(self.config.settings.interval, workers.collect(), all)
    }

    /// Watches a path no longer; `false` if it was not watched. A read that is stuck stays with the
    /// kernel, and nobody waits for it.
    pub fn remove(&self, id: PathId) -> bool {
        self.remove_with_status(id).is_some()
    }

    /// As [`Monitor::remove`], and keeps its status; `None` if it was not watched. Its worker may still have
    /// something to say of it; not after [`Monitor::settle`].
    pub fn remove_with_status(&self, id: PathId) -> Option<RemovedPath> {
        let left = self.registry_mut().remove(id);
        let (worker, cell) = left?;
        let (closing, released) = channel();
        let told = self.workers[worker].send(WorkerMsg::Remove(id, closing));
        told.then_some(RemovedPath(cell, Released(released)))
    }

    /// The former name of [`Monitor::remove_with_status`].
    #[doc(hidden)]
    pub fn part(&self, id: PathId) -> Option<RemovedPath> {
        self.remove_with_status(id)
    }

    /// Watches a path in another way from now on; `false` if it is not watched. Its state, its
    /// history and, if the interval stays, the times of its checks are kept.
    pub fn change(&self, id: PathId, settings: Settings) -> bool {
        let settings = Box::new(settings.within_limits());
        self.tell_worker_of(id, WorkerMsg::Change(id, settings))
    }

    /// Gives a path another name, by which it is looked up and told of from now on; `false` if it is not
    /// watched. Its state and its history are kept.
    pub fn rename(&self, id: PathId, name: &Path) -> bool {
        self.registry_mut().rename(id, name)
    }

    /// Stops checking a path, and gives its device up; `false` if it is not watched.
    pub fn pause(&self, id: PathId) -> bool {
        self.release(id).is_some()
    }

    /// As [`Monitor::pause`], and tells when the device is free; `None` if it is not watched.
    pub fn release(&self, id: PathId) -> Option<Released> {
        let (closing, released) = channel();
        let told = self.tell_worker_of(id, WorkerMsg::Pause(id, closing));
        told.then_some(Released(released))
    }

    /// PendingOpens a paused path again by its name, and checks it, from `Pending` on; `false` if it is not
    /// watched.
    pub fn resume(&self, id: PathId) -> bool {
        self.tell_worker_of(id, WorkerMsg::Resume(id))
    }

    /// Checks a path now instead of when it is due; `false` if it is not watched. A path whose
    /// check is going on, or whose read is stuck, is not checked a second time. Waits for nothing: a
    /// worker that has no room for more commands is not asked.
    pub fn check_now(&self, id: PathId) -> bool {
        let worker = self.registry().worker_of(id);
        if let Some(worker) = worker {
            self.workers[worker].try_send(WorkerMsg::CheckNow(id));
        }
        worker.is_some()
    }

    fn tell_worker_of(&self, id: PathId, command: WorkerMsg) -> bool {
        let worker = self.registry().worker_of(id);
        worker.is_some_and(|worker| self.workers[worker].send(command))
    }

    /// How a path is now; `None` if it is not watched.
    pub fn path(&self, id: PathId) -> Option<PathStatus> {
        Some(self.registry().cell(id)?.snapshot())
    }

    /// What a path is; `None` if it is not watched. Costs less than to ask how it is.
    pub fn info(&self, id: PathId) -> Option<Arc<PathInfo>> {
        Some(self.registry().cell(id)?.info())
    }

    /// The latencies of a path's last answered checks in microseconds, in the order of the checks: at most
    /// `count`, and never more than 128. Empty if it is not watched, or never answered.
    pub fn latencies_us(&self, id: PathId, count: usize) -> Vec<u64> {
        let registry = self.registry();
        let cell = registry.cell(id);
        cell.map_or_else(Vec::new, |cell| cell.window.last(count))
    }

    /// How all paths are now, in the order in which they were added.
    pub fn status(&self) -> Vec<(PathId, PathStatus)> {
        let registry = self.registry();
        let all = registry.cells();
        all.map(|(id, cell)| (id, cell.snapshot())).collect()
    }

    /// How all groups are now, in the order of their names.
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.registry().groups()
    }

    /// The path that was added under this name, if it is watched.
    pub fn find(&self, name: &Path) -> Option<PathId> {
        let registry = self.registry();
        let found = registry
            .cells()
            .find(|(_, cell)| cell.info().name() == name);
        found.map(|(id, _)| id)
    }

    /// The paths whose names lead elsewhere by now than to what is watched: see [`PathInfo::leads_elsewhere`].
    pub fn paths_elsewhere(&self) -> Vec<PathId> {
        self.registry().paths_elsewhere().collect()
    }

    /// The former name of [`Monitor::paths_elsewhere`].
    #[doc(hidden)]
    pub fn astray(&self) -> Vec<PathId> {
        self.paths_elsewhere()
    }

    /// The path that leads to this device, if one is watched.
    pub fn find_device(&self, device: DeviceId) -> Option<PathId> {
        self.registry().find_device(device)
    }

    /// A stream of what happens from now on, with room for `capacity` events.
    pub fn events(&self, capacity: usize) -> EventStream {
        let (subscriber, stream) = EventStream::new(capacity);
        for worker in &self.workers {
            worker.send(WorkerMsg::Subscribe(subscriber.clone()));
        }
        stream
    }

    /// What carries the checks to the kernel, now: a worker whose backend breaks takes the best of
    /// its choice that still works.
    pub fn backend(&self) -> BackendInfo {
        self.workers[0].handle().info.clone()
    }

    /// How the workers are.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.workers.iter().map(WorkerHandle::status).collect()
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
    ///
    /// Called again it gives the same report; workers that had not answered by then may have done so
    /// since. Of two calls at a time one waits for the other, within its own limit.
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        self.registry_mut().close();
        let (deadline, end) = (Mono::now() + limit, Instant::now() + limit);
        let mut ending = loop {
            match self.ending.try_lock() {
                Ok(ending) => break ending,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(1));
                }
                // Whoever stops them has not heard of any.
                Err(TryLockError::WouldBlock) => {
                    return ShutdownReport {
                        held_reads: 0,
                        silent_workers: self.workers.len(),
                    };
                }
            }
        };
        ending.told.resize(self.workers.len(), false);
        let Ending {
            told,
            replies,
            answered,
            held_reads,
        } = &mut *ending;
        let (reply, replies) = replies.get_or_insert_with(channel);
        for (worker, told) in self.workers.iter().zip(&mut *told) {
            *told = *told || worker.send_until(WorkerMsg::Stop(deadline, reply.clone()), end);
        }
        let mut waiting = told.iter().filter(|told| **told).count() - *answered;
        while waiting > 0 {
            let left = end.saturating_duration_since(Instant::now()) + Duration::from_millis(20);
            let Ok(held) = replies.recv_timeout(left) else {
                break;
            };
            *held_reads += held;
            *answered += 1;
            waiting -= 1;
        }
        ShutdownReport {
            held_reads: *held_reads,
            silent_workers: self.workers.len() - *answered,
        }
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
            let stop = WorkerMsg::Stop(Mono::now() + DROP_GRACE, channel().0);
            worker.send_until(stop, end);
        }
    }
}
