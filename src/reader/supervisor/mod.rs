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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pathpulse_kernel_compat::{Child, Errno, KernelError, Mono, Waker, Words};

use super::message::{CommandMsg, GroupSlot};
use super::process::{OpenReport, Opening, PathRecord, ReaderProcess, Request};
use super::segment::NO_GROUP;
use crate::config::{BackendInfo, Config, ShutdownReport, StartError};
use crate::device::{OpenProblem, OpenedDevice};
use crate::health::State;
use crate::settings::Settings;
use crate::status::{GroupCell, PathId, SharedRegistry, StatusCell, Subscriber, WorkerStatus};
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
    registry: SharedRegistry,
    state: Mutex<Readers>,
    waker: Waker,
}

#[derive(Default)]
struct Readers {
    readers: Vec<ReaderProcess>,
    corpses: Vec<Corpse>,
    subscribers: Vec<Subscriber>,
    /// The last start of a reader failed.
    cannot_start: bool,
    /// Who waits for the first report of each reader.
    starting: Option<Sender<Result<(), StartError>>>,
    /// Who waits for the readers to stop.
    stopping: Option<Sender<u64>>,
    /// What remained when they were stopped.
    report: Option<ShutdownReport>,
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
        registry: SharedRegistry,
    ) -> Result<Supervisor, StartError> {
        let waker = Waker::new()
            .map_err(|error| StartError::NoThread(KernelError::of("eventfd")(error)))?;
        let (started, starts) = channel();
        let shared = Arc::new(Shared {
            program,
            config,
            registry,
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
        self.with(worker, |reader| {
            for (id, name) in names {
                let reports = reports.clone();
                reader.open(id, Opening { name, reports });
            }
        });
    }

    /// Closes what was opened.
    pub(crate) fn discard(&self, worker: usize, id: PathId) {
        let id = id.number();
        self.with(worker, |reader| reader.send(&CommandMsg::Discard { id }));
    }

    /// Has a path watched that this reader opened. Its status appears in the cell that `enter`
    /// makes of these words; nothing is watched if that refuses.
    ///
    /// # Errors
    /// That of `enter`, or [`OpenProblem::Closed`] if the reader is full.
    pub(crate) fn watch(
        &self,
        worker: usize,
        id: PathId,
        path: NewRecord,
        enter: impl FnOnce(Words) -> Result<Arc<StatusCell>, OpenProblem>,
    ) -> Result<(), OpenProblem> {
        self.with(worker, |reader| {
            let name = path.group.as_deref();
            let allocated = reader.slots.allocate(name, &reader.segment);
            let (slot, group) = allocated.ok_or(OpenProblem::Closed)?;
            let words = reader.segment.cell(slot).ok_or(OpenProblem::Closed)?;
            let cell = enter(words).inspect_err(|_| {
                reader.slots.leave_group(name);
                reader.slots.release(slot);
            })?;
            cell.reset();
            cell.expect_verdict(Mono::now(), path.settings.timeout);
            let latencies = group_cell(reader, group.as_ref());
            let mut registry = self.shared.registry.write();
            registry.set_group_cell(name, worker, latencies);
            drop(registry);
            // A reader that took the place of the one which opened the path opens it again.
            let is_open = reader.child.pid() == path.opened_by;
            let (number, settings) = (id.number(), path.settings);
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
                settings,
                device: path.device,
                shown: State::Pending,
                cell: Arc::downgrade(&cell),
            };
            reader.paths.insert(id, record);
            Ok(())
        })
    }

    /// Hands a worker's message to its reader. Returns `false` if the readers were stopped.
    pub(crate) fn send(&self, worker: usize, message: WorkerMsg) -> bool {
        if self.shared.state().is_over {
            return false;
        }
        self.with(worker, |reader| {
            let command = match message {
                WorkerMsg::Remove(id, closing) => return reader.remove(id, &closing),
                WorkerMsg::Pause(id, closing) => CommandMsg::Pause {
                    id: id.number(),
                    request: reader.request_closed(&closing),
                },
                WorkerMsg::Change(id, settings) => {
                    if let Some(record) = reader.paths.get_mut(&id) {
                        record.settings = *settings;
                    }
                    let (id, settings) = (id.number(), *settings);
                    CommandMsg::Change { id, settings }
                }
                WorkerMsg::Resume(id) => CommandMsg::Resume { id: id.number() },
                WorkerMsg::CheckNow(id) => CommandMsg::CheckNow { id: id.number() },
                WorkerMsg::Answer(reply) => CommandMsg::Ping {
                    request: reader.request(Request::Answer(reply)),
                },
                WorkerMsg::Add(_)
                | WorkerMsg::Adopt(_)
                | WorkerMsg::Reopened(..)
                | WorkerMsg::Subscribe(_)
                | WorkerMsg::Stop(..) => unreachable!("of workers in this process only"),
            };
            reader.send(&command);
        });
        true
    }

    /// Sends events of all readers to this subscriber.
    pub(crate) fn subscribe(&self, subscriber: Subscriber) {
        self.shared.state().subscribers.push(subscriber);
    }

    /// Tells the reader that a path has another name.
    pub(crate) fn rename(&self, worker: usize, id: PathId, name: PathBuf) {
        self.with(worker, |reader| {
            if let Some(record) = reader.paths.get_mut(&id) {
                record.name.clone_from(&name);
            }
            let id = id.number();
            reader.send(&CommandMsg::Rename { id, name });
        });
    }

    /// Calls `work` for a reader. What that could not send yet is left to the thread.
    fn with<T>(&self, worker: usize, work: impl FnOnce(&mut ReaderProcess) -> T) -> T {
        let mut state = self.shared.state();
        let reader = &mut state.readers[worker];
        let result = work(reader);
        if reader.has_unsent() {
            self.shared.waker.wake();
        }
        result
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
    /// as far as known, and how many readers did not answer. Another call returns the same.
    pub(crate) fn stop(&self, deadline: Mono, end: Instant) -> ShutdownReport {
        let (answer, answers) = channel();
        let readers = {
            let mut state = self.shared.state();
            if let Some(report) = state.report {
                return report;
            }
            state.stopping = Some(answer);
            for reader in &mut state.readers {
                reader.send(&CommandMsg::Stop { deadline });
            }
            state.readers.len()
        };
        self.shared.waker.wake();
        let mut report = ShutdownReport {
            held_reads: 0,
            silent_workers: readers,
        };
        while report.silent_workers > 0 {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(reads) = answers.recv_timeout(left) else {
                break;
            };
            report.held_reads += usize::try_from(reads).unwrap_or(usize::MAX);
            report.silent_workers -= 1;
        }
        let mut state = self.shared.state();
        state.report = Some(report);
        state.is_over = true;
        for reader in &state.readers {
            let _ = reader.child.kill();
        }
        drop(state);
        self.shared.waker.wake();
        report
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
}
