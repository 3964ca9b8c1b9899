//! Starts readers, watches them, and replaces those that end or hang.
//!
//! One thread does that, and receives their reports. It waits for nothing but these and its own
//! clock. Other threads send commands, which never wait either: what a reader does not take yet is
//! kept. The thread also starts the readers, since they end with it (prctl(2), PR_SET_PDEATHSIG).
//!
//! A reader that is overdue for a second is killed. Its paths go to a fresh reader at once,
//! with what the shared memory has of them, and so do the paths of a reader that ended. A killed
//! reader that the kernel holds is a *corpse*: it is remembered until it has ended.
//!
//! Here is what other threads call. The thread itself is in `thread.rs`, how it replaces a reader
//! in `replace.rs`, and what it does with reports in `reports.rs`.

mod replace;
mod reports;
mod thread;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::{Child, Closing, Errno, KernelError, Mono, Waker, Words};

use super::message::{CommandMsg, GroupSlot};
use super::process::{OpenReport, Opening, PathRecord, ReaderProcess, Request};
use super::segment::NO_GROUP;
use crate::config::{BackendInfo, Config, ShutdownReport, StartError};
use crate::device::OpenedDevice;
use crate::health::State;
use crate::settings::Settings;
use crate::status::{GroupCell, PathId, Registry, StatusCell, Subscriber, WorkerStatus};
use crate::worker::WorkerMsg;

/// How long a reader may take until it reports that it works.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The readers of a monitor.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    program: PathBuf,
    config: Config,
    registry: Arc<RwLock<Registry>>,
    state: Mutex<Readers>,
    waker: Waker,
}

#[derive(Default)]
struct Readers {
    readers: Vec<ReaderProcess>,
    corpses: Vec<Corpse>,
    subscribers: Vec<Subscriber>,
    requests: u64,
    /// The last start of a reader failed.
    cannot_start: bool,
    /// Who waits for the first report of each reader.
    starting: Option<Sender<Result<(), StartError>>>,
    /// Who waits for the readers to stop.
    stopping: Option<Sender<u64>>,
    is_over: bool,
}

/// A reader that was killed, or ended.
struct Corpse {
    child: Arc<Child>,
    /// Answered when it is gone: its files are closed then.
    #[expect(dead_code, reason = "only its drop matters")]
    requests: HashMap<u64, Request>,
}

impl Supervisor {
    /// Starts the readers, and waits until each works.
    pub(crate) fn start(
        program: PathBuf,
        config: Config,
        registry: &Arc<RwLock<Registry>>,
    ) -> Result<Supervisor, StartError> {
        let waker = Waker::new()
            .map_err(|error| StartError::NoThread(KernelError::of("eventfd")(error)))?;
        let (started, starts) = channel();
        let shared = Arc::new(Shared {
            program,
            config,
            registry: Arc::clone(registry),
            state: Mutex::new(Readers {
                starting: Some(started),
                ..Readers::default()
            }),
            waker,
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("pathpulse-supervisor".to_owned())
            .spawn(move || theirs.run())
            .map_err(|error| StartError::NoThread(KernelError::of("clone")(error)))?;
        let supervisor = Supervisor { shared };
        for _ in 0..supervisor.shared.config.workers {
            starts.recv_timeout(START_LIMIT).map_err(|_| {
                let error = KernelError::new("execve", Errno::ETIMEDOUT);
                StartError::NoThread(error.hint("a reader did not start"))
            })??;
        }
        supervisor.shared.state().starting = None;
        Ok(supervisor)
    }

    /// Has these names opened by this reader. The reports are sent to `reports`.
    pub(crate) fn open(
        &self,
        worker: usize,
        names: Vec<(PathId, PathBuf)>,
        reports: &Sender<(PathId, OpenReport)>,
    ) {
        let mut state = self.shared.state();
        let reader = &mut state.readers[worker];
        for (id, name) in names {
            let reports = reports.clone();
            reader.send(&CommandMsg::Open {
                id: id.number(),
                name: name.clone(),
            });
            reader.opening.insert(id, Opening { name, reports });
        }
        drop(state);
        self.shared.waker.wake();
    }

    /// Closes what was opened.
    pub(crate) fn discard(&self, worker: usize, id: PathId) {
        self.command(worker, &CommandMsg::Discard { id: id.number() });
    }

    /// Has a path watched that this reader opened. Its status appears in the cell that is handed to
    /// `enter`, with the counters of its group; nothing is watched if that refuses.
    pub(crate) fn watch<E>(
        &self,
        worker: usize,
        id: PathId,
        path: NewRecord,
        enter: impl FnOnce(Words) -> Result<Arc<StatusCell>, E>,
    ) -> Option<Result<(), E>> {
        let mut state = self.shared.state();
        let reader = &mut state.readers[worker];
        let (slot, group) = reader.allocate(path.group.as_deref())?;
        let words = reader.segment.cell(slot)?;
        let cell = match enter(words) {
            Ok(cell) => cell,
            Err(error) => {
                reader.release(slot, path.group.as_deref());
                return Some(Err(error));
            }
        };
        cell.reset();
        cell.expect_verdict(Mono::now(), path.settings.timeout);
        let group_cell = group_cell(reader, group.as_ref());
        self.shared
            .registry_mut()
            .set_group_cell(path.group.as_deref(), worker, group_cell);
        let (number, settings) = (id.number(), path.settings);
        let group_slot = group.as_ref().map_or(NO_GROUP, |group| group.slot);
        // A reader that took the place of the one which opened the path opens it again.
        let is_open = reader.child.pid() == path.opened_by;
        reader.send(&match is_open {
            true => CommandMsg::Watch {
                id: number,
                slot,
                group,
                settings,
            },
            false => CommandMsg::Adopt {
                id: number,
                name: path.name.clone(),
                slot,
                group,
                settings,
                device: path.device.clone(),
            },
        });
        let record = PathRecord {
            name: path.name,
            slot,
            group: path.group,
            group_slot,
            settings,
            device: path.device,
            shown: State::Pending,
            cell: Arc::downgrade(&cell),
        };
        reader.paths.insert(id, record);
        Some(Ok(()))
    }

    /// Hands a worker's message to its reader.
    pub(crate) fn send(&self, worker: usize, message: WorkerMsg) -> bool {
        let mut state = self.shared.state();
        if state.is_over {
            return false;
        }
        // Two numbers: a removal is two requests.
        state.requests += 2;
        let request = state.requests;
        if let WorkerMsg::Subscribe(subscriber) = message {
            state.subscribers.push(subscriber);
            return true;
        }
        let reader = &mut state.readers[worker];
        let command = match message {
            WorkerMsg::Remove(id, closing) => {
                let (closed, closes) = Closing::pair();
                let _ = closing.send(closes);
                reader.requests.insert(request, Request::Closed(closed));
                let number = id.number();
                reader.send(&CommandMsg::Remove {
                    id: number,
                    request,
                });
                let unused = request + 1;
                reader.forget(id, unused);
                CommandMsg::Ping { request: unused }
            }
            WorkerMsg::Pause(id, closing) => {
                let (closed, closes) = Closing::pair();
                let _ = closing.send(closes);
                reader.requests.insert(request, Request::Closed(closed));
                let id = id.number();
                CommandMsg::Pause { id, request }
            }
            WorkerMsg::Change(id, settings) => {
                if let Some(record) = reader.paths.get_mut(&id) {
                    record.settings = *settings;
                }
                CommandMsg::Change {
                    id: id.number(),
                    settings: *settings,
                }
            }
            WorkerMsg::Resume(id) => CommandMsg::Resume { id: id.number() },
            WorkerMsg::CheckNow(id) => CommandMsg::CheckNow { id: id.number() },
            WorkerMsg::Answer(reply) => {
                reader.requests.insert(request, Request::Answer(reply));
                CommandMsg::Ping { request }
            }
            WorkerMsg::Add(_)
            | WorkerMsg::Adopt(_)
            | WorkerMsg::Reopened(..)
            | WorkerMsg::Subscribe(_)
            | WorkerMsg::Stop(..) => {
                unreachable!("of workers in this process only")
            }
        };
        reader.send(&command);
        drop(state);
        self.shared.waker.wake();
        true
    }

    /// Tells the reader that a path has another name.
    pub(crate) fn rename(&self, worker: usize, id: PathId, name: PathBuf) {
        let mut state = self.shared.state();
        if let Some(record) = state.readers[worker].paths.get_mut(&id) {
            record.name.clone_from(&name);
        }
        state.readers[worker].send(&CommandMsg::Rename {
            id: id.number(),
            name,
        });
    }

    fn command(&self, worker: usize, message: &CommandMsg) {
        self.shared.state().readers[worker].send(message);
        self.shared.waker.wake();
    }

    /// Number of readers.
    pub(crate) fn count(&self) -> usize {
        self.shared.state().readers.len()
    }

    /// The status of each reader's worker.
    pub(crate) fn workers(&self) -> Vec<WorkerStatus> {
        let state = self.shared.state();
        let readers = state.readers.iter();
        readers
            .map(|reader| reader.progress.snapshot(backend_of(reader)))
            .collect()
    }

    /// The backend of the first reader.
    pub(crate) fn backend(&self) -> BackendInfo {
        backend_of(&self.shared.state().readers[0])
    }

    /// Stops all readers, and waits until `end` at most. Returns how many reads the kernel holds,
    /// as far as known, and how many readers did not answer.
    pub(crate) fn stop(&self, deadline: Mono, end: Instant) -> ShutdownReport {
        let (answer, answers) = channel();
        let readers = {
            let mut state = self.shared.state();
            state.stopping = Some(answer);
            for reader in &mut state.readers {
                reader.send(&CommandMsg::Stop { deadline });
            }
            state.readers.len()
        };
        self.shared.waker.wake();
        let (mut held, mut silent) = (0, readers);
        while silent > 0 {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(reads) = answers.recv_timeout(left) else {
                break;
            };
            held += usize::try_from(reads).unwrap_or(usize::MAX);
            silent -= 1;
        }
        let mut state = self.shared.state();
        state.is_over = true;
        for reader in &state.readers {
            let _ = reader.child.kill();
        }
        drop(state);
        self.shared.waker.wake();
        ShutdownReport {
            held_reads: held,
            silent_workers: silent,
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.waker.wake();
    }
}

/// A path to be watched.
pub(crate) struct NewRecord {
    pub(crate) name: PathBuf,
    pub(crate) group: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) device: OpenedDevice,
    /// The number of the process that opened it.
    pub(crate) opened_by: u32,
}

fn backend_of(reader: &ReaderProcess) -> BackendInfo {
    reader.backend.clone().unwrap_or_else(BackendInfo::unknown)
}

fn group_cell(reader: &ReaderProcess, group: Option<&GroupSlot>) -> Option<Arc<GroupCell>> {
    let slot = group.map_or(NO_GROUP, |group| group.slot);
    let latencies = reader.segment.group(slot)?;
    let name = group.map(|group| &*group.name);
    Some(Arc::new(GroupCell::over(name, latencies)))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Readers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
