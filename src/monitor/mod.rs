//! The handle with which a program watches paths: [`Monitor`].
//!
//! A monitor owns its workers and the registry of its paths. Here are its start and the commands
//! for single paths. `add.rs` opens and adds paths, `query.rs` reads their status, and
//! `shutdown.rs` ends the workers. Commands go to the workers as messages. Status comes from the
//! status cells, which the workers write, without asking a worker.

mod add;
mod open_by_readers;
mod query;
mod shutdown;
mod workers;

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::config::{Config, Isolation, StartError};
use crate::device::PendingOpens;
use crate::reader::Supervisor;
use crate::settings::Settings;
use crate::status::{PathId, Progress, Released, RemovedPath, SharedRegistry};
use crate::worker::{NameWatch, Surroundings, WorkerMsg, start_worker};
use shutdown::ShutdownProgress;
use workers::Workers;

/// Watches paths. All methods may be called from any thread. None waits for a device, except
/// [`Monitor::add`].
///
/// Dropping a monitor stops its workers without waiting for them. Each ends when its reads have
/// ended, or after 100 ms. [`Monitor::shutdown`] waits for them and reports what remained.
pub struct Monitor {
    workers: Workers,
    config: Config,
    registry: SharedRegistry,
    /// Opens in progress, shared by all workers.
    opens: Arc<PendingOpens>,
    /// Set as soon as a path is watched for longer than one check.
    names: OnceLock<NameWatch>,
    /// Number of paths added so far; selects the worker of the next one.
    added: AtomicUsize,
    shutdown_progress: Mutex<ShutdownProgress>,
    started: Instant,
}

impl Monitor {
    /// Starts a monitor with its workers.
    ///
    /// # Errors
    /// If no backend is available, with the reasons, or no thread can be started.
    pub fn start(config: Config) -> Result<Monitor, StartError> {
        let config = Config {
            workers: config.workers.max(1),
            settings: config.settings.within_limits(),
            ..config
        };
        let registry = SharedRegistry::new(config.workers);
        let opens = Arc::default();
        let workers = match &config.isolation {
            Isolation::Threads => {
                let workers = (0..config.workers).map(|_| {
                    let surroundings = Surroundings {
                        registry: registry.clone(),
                        opens: Arc::clone(&opens),
                        progress: Progress::default(),
                        supervision: None,
                    };
                    start_worker(&config, surroundings)
                });
                Workers::Threads(workers.collect::<Result<_, _>>()?)
            }
            Isolation::Processes { program } => {
                let program = program.clone();
                Workers::Processes(Supervisor::start(
                    program,
                    config.clone(),
                    registry.clone(),
                )?)
            }
        };
        Ok(Monitor {
            workers,
            config,
            registry,
            opens,
            names: OnceLock::new(),
            added: AtomicUsize::new(0),
            shutdown_progress: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// Stops watching a path. Returns `false` if it was not watched. A stuck read stays with the
    /// kernel, and nothing waits for it.
    pub fn remove(&self, id: PathId) -> bool {
        self.remove_with_status(id).is_some()
    }

    /// Like [`Monitor::remove`], and keeps the last status of the path; `None` if it was not
    /// watched. Its worker may still update the status until [`Monitor::settle`] has returned.
    pub fn remove_with_status(&self, id: PathId) -> Option<RemovedPath> {
        let left = self.registry.write().remove(id);
        let (worker, cell) = left?;
        let (closing, released) = channel();
        let sent = self.workers.send(worker, WorkerMsg::Remove(id, closing));
        sent.then_some(RemovedPath(cell, Released(released)))
    }

    /// The former name of [`Monitor::remove_with_status`].
    #[doc(hidden)]
    pub fn part(&self, id: PathId) -> Option<RemovedPath> {
        self.remove_with_status(id)
    }

    /// Changes the settings of a path. Returns `false` if it is not watched. The path keeps its
    /// state, its history and, if the interval stays, the times of its checks.
    pub fn change(&self, id: PathId, settings: Settings) -> bool {
        let settings = Box::new(settings.within_limits());
        self.send_to_worker_of(id, WorkerMsg::Change(id, settings))
    }

    /// Renames a path for lookups and output. Returns `false` if it is not watched. The path keeps
    /// its state and its history.
    pub fn rename(&self, id: PathId, name: &Path) -> bool {
        let worker = self.registry.read().worker_of(id);
        if let (Workers::Processes(supervisor), Some(worker)) = (&self.workers, worker) {
            supervisor.rename(worker, id, name.to_owned());
        }
        self.registry.write().rename(id, name)
    }

    /// Stops checking a path and closes its device. Returns `false` if it is not watched.
    pub fn pause(&self, id: PathId) -> bool {
        self.release(id).is_some()
    }

    /// Like [`Monitor::pause`], and tells when the device is free; `None` if it is not watched.
    pub fn release(&self, id: PathId) -> Option<Released> {
        let (closing, released) = channel();
        let sent = self.send_to_worker_of(id, WorkerMsg::Pause(id, closing));
        sent.then_some(Released(released))
    }

    /// Opens a paused path again by its name, and checks it from state `Pending` on. Returns
    /// `false` if it is not watched.
    pub fn resume(&self, id: PathId) -> bool {
        self.send_to_worker_of(id, WorkerMsg::Resume(id))
    }

    /// Checks a path now instead of at its due time. Returns `false` if it is not watched. Does
    /// nothing while a check of the path is running or a read is stuck, or if the worker's message
    /// queue is full. Never waits.
    pub fn check_now(&self, id: PathId) -> bool {
        let worker = self.registry.read().worker_of(id);
        if let Some(worker) = worker {
            self.workers.try_send(worker, WorkerMsg::CheckNow(id));
        }
        worker.is_some()
    }

    /// Waits until the workers have handled all messages sent so far, but at most `limit`.
    pub fn settle(&self, limit: Duration) {
        self.settle_until(Instant::now() + limit);
    }

    fn settle_until(&self, deadline: Instant) {
        let (reply, replies) = channel();
        let ask = || WorkerMsg::Answer(reply.clone());
        self.workers.send_to_all(ask, deadline);
        drop(reply);
        let left = || deadline.saturating_duration_since(Instant::now());
        while replies.recv_timeout(left()).is_ok() {}
    }

    fn send_to_worker_of(&self, id: PathId, message: WorkerMsg) -> bool {
        let worker = self.registry.read().worker_of(id);
        worker.is_some_and(|worker| self.workers.send(worker, message))
    }
}
