//! The process of a reader: it does what its supervisor says, and reports.
//!
//! The main thread receives commands. The worker checks paths, as in a process of its own; threads
//! that nobody waits for open files and look names up. Reports are sent by whoever has one, except
//! by the worker, which waits for nobody: its events go through a queue.
//!
//! A reader ends when its supervisor says so, closes the connection, or ends.

mod parked;

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use pathpulse_kernel_compat::{Closing, Mono, exit_now, inherited_file, raise_open_files_limit};

use self::parked::Parked;
use super::codec::FrameReader;
use super::link::Link;
use super::message::{CommandMsg, GroupSlot, ReportMsg, VERSION};
use super::segment::{NO_GROUP, Segment};
use crate::config::Config;
use crate::device::{Device, OpenedDevice, PendingOpens, open_all};
use crate::settings::Settings;
use crate::status::{
    EventStream, GroupCell, NameDecision, PathId, PathInfo, SharedRegistry, StatusCell,
};
use crate::worker::{
    AdoptedPath, NameWatch, NewPath, Supervision, Surroundings, WorkerHandle, WorkerMsg,
    start_worker,
};

/// The numbers of the descriptors that a supervisor gives to its reader.
pub(super) const SOCKET: i32 = 3;
pub(super) const MEMORY: i32 = 4;
/// The exit status of a reader that can't work.
const FAILED: i32 = 1;
/// Events that may wait for the supervisor.
const EVENTS_MAX: usize = 1 << 16;
/// Extra time for the answer of a worker that used all of its time limit.
const STOP_GRACE: Duration = Duration::from_millis(20);

/// Runs this process as a reader of the supervisor that started it, and returns its exit status.
/// Call it from `main` of the program that [`Isolation::Processes`](crate::Isolation::Processes)
/// names, when its only argument is `reader`.
pub fn run_reader() -> i32 {
    let files = inherited_file(SOCKET).and_then(|socket| Ok((socket, inherited_file(MEMORY)?)));
    let started = files.and_then(|(socket, memory)| Ok((socket, Segment::open(memory)?)));
    match started {
        Ok((socket, segment)) => serve(socket, &segment),
        Err(error) => {
            tracing::error!(%error, "readers are started by `pathpulse run`");
            FAILED
        }
    }
}

/// Receives commands until the supervisor is gone.
fn serve(socket: OwnedFd, segment: &Segment) -> i32 {
    raise_open_files_limit();
    let mut socket = UnixStream::from(socket);
    let Ok(theirs) = socket.try_clone() else {
        return FAILED;
    };
    let link = Arc::new(Link::new(theirs));
    let mut frames = FrameReader::default();
    let mut reader = None;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let names = &mut Vec::new();
        loop {
            match (frames.next::<CommandMsg>(), &mut reader) {
                (Ok(None), _) => break,
                (
                    Ok(Some(CommandMsg::Hello {
                        version,
                        backend,
                        settings,
                    })),
                    None,
                ) if version == VERSION => {
                    let config = Config {
                        backend,
                        settings,
                        ..Config::default()
                    };
                    match Reader::start(&config, &link, segment.clone()) {
                        Some(started) => reader = Some(started),
                        None => return FAILED,
                    }
                }
                (Ok(Some(message)), Some(reader)) => reader.handle(message, names),
                _ => {
                    tracing::error!("the supervisor is another version of the program");
                    return FAILED;
                }
            }
        }
        if let Some(reader) = &reader {
            reader.open(std::mem::take(names));
        }
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => exit_now(0),
            Ok(count) => frames.push(&buffer[..count]),
        }
    }
}

/// What the main thread of a reader knows.
struct Reader {
    link: Arc<Link>,
    segment: Segment,
    registry: SharedRegistry,
    opens: Arc<PendingOpens>,
    worker: WorkerHandle,
    parked: Arc<Parked>,
    groups: HashMap<u32, Arc<GroupCell>>,
    interval: Duration,
    names: Option<NameWatch>,
}

impl Reader {
    /// Starts the worker, and reports whether it works.
    fn start(config: &Config, link: &Arc<Link>, segment: Segment) -> Option<Reader> {
        let registry = SharedRegistry::new(1);
        let opens = Arc::<PendingOpens>::default();
        let parked = Arc::new(Parked::new(link));
        let supervision = Arc::clone(&parked) as Arc<dyn Supervision>;
        let surroundings = Surroundings {
            registry: registry.clone(),
            opens: Arc::clone(&opens),
            progress: segment.progress(),
            supervision: Some(supervision),
        };
        let worker = match start_worker(config, surroundings) {
            Ok(worker) => worker,
            Err(error) => {
                link.send(&ReportMsg::NotStarted(error));
                return None;
            }
        };
        let (subscriber, events) = EventStream::new(EVENTS_MAX);
        worker.send(WorkerMsg::Subscribe(subscriber));
        let theirs = Arc::clone(link);
        spawn("pathpulse-events", move || send_events(&events, &theirs));
        let backend = worker.handle().info.clone();
        link.send(&ReportMsg::Ready {
            version: VERSION,
            backend,
        });
        Some(Reader {
            link: Arc::clone(link),
            segment,
            registry,
            opens,
            worker,
            parked,
            groups: HashMap::new(),
            interval: config.settings.interval,
            names: None,
        })
    }

    /// Handles a command. Names to open are collected, so that they are opened together.
    fn handle(&mut self, message: CommandMsg, names: &mut Vec<(u64, PathBuf)>) {
        match message {
            CommandMsg::Hello { .. } => {}
            CommandMsg::Open { id, name } => names.push((id, name)),
            CommandMsg::Watch {
                id,
                slot,
                group,
                settings,
            } => self.watch(id, slot, group.as_ref(), settings),
            CommandMsg::Discard { id } => {
                let opened = self.parked.opened().remove(&id);
                drop_device(opened.map(|(_, device)| device));
            }
            CommandMsg::Adopt {
                id,
                name,
                slot,
                group,
                settings,
                device,
            } => self.adopt(id, name, slot, group.as_ref(), settings, &device),
            CommandMsg::Remove { id, request } => {
                let id = PathId::from_number(id);
                self.registry.write().remove(id);
                let (closing, closings) = channel();
                self.worker.send(WorkerMsg::Remove(id, closing));
                self.report_closed(request, closings);
            }
            CommandMsg::Pause { id, request } => {
                let (closing, closings) = channel();
                self.worker
                    .send(WorkerMsg::Pause(PathId::from_number(id), closing));
                self.report_closed(request, closings);
            }
            CommandMsg::Change { id, settings } => {
                let message = WorkerMsg::Change(PathId::from_number(id), Box::new(settings));
                self.worker.send(message);
            }
            CommandMsg::Resume { id } => {
                self.worker.send(WorkerMsg::Resume(PathId::from_number(id)));
            }
            CommandMsg::CheckNow { id } => {
                self.worker
                    .try_send(WorkerMsg::CheckNow(PathId::from_number(id)));
            }
            CommandMsg::Rename { id, name } => {
                let id = PathId::from_number(id);
                self.registry.write().rename(id, &name);
            }
            CommandMsg::NameAnswer { id, answer } => self.decide(id, answer),
            CommandMsg::Ping { request } => self.answer(request),
            CommandMsg::Stop { deadline } => self.stop(deadline),
        }
    }

    /// Opens these names on threads, and reports each.
    fn open(&self, names: Vec<(u64, PathBuf)>) {
        if names.is_empty() {
            return;
        }
        let (ids, names): (Vec<u64>, Vec<PathBuf>) = names.into_iter().unzip();
        let (link, opens) = (Arc::clone(&self.link), Arc::clone(&self.opens));
        let parked = Arc::clone(&self.parked);
        spawn("pathpulse-opens", move || {
            let known = names.clone();
            let open = |_: usize, name: &Path| Device::open(name);
            open_all(names, None, &opens, open, |place, opened| {
                let id = ids[place];
                let report = match opened {
                    Some(Ok(device)) => {
                        let opened = device.opened();
                        let name = known[place].clone();
                        parked.opened().insert(id, (name, Box::new(device)));
                        ReportMsg::Opened { id, device: opened }
                    }
                    Some(Err(problem)) => ReportMsg::OpenFailed { id, problem },
                    None => return,
                };
                link.send(&report);
            });
        });
    }

    /// Watches a path that was opened.
    fn watch(&mut self, id: u64, slot: u32, group: Option<&GroupSlot>, settings: Settings) {
        let Some((name, device)) = self.parked.opened().remove(&id) else {
            return;
        };
        let Some((cell, group)) = self.enter(id, name, slot, group, &device.opened()) else {
            return drop_device(Some(device));
        };
        self.worker.send(WorkerMsg::Add(Box::new(NewPath {
            id: PathId::from_number(id),
            device: *device,
            cell,
            settings,
            group,
            once: None,
        })));
    }

    /// Watches a path where another reader ended.
    fn adopt(
        &mut self,
        id: u64,
        name: PathBuf,
        slot: u32,
        group: Option<&GroupSlot>,
        settings: Settings,
        device: &OpenedDevice,
    ) {
        if let Some((cell, group)) = self.enter(id, name, slot, group, device) {
            self.worker.send(WorkerMsg::Adopt(Box::new(AdoptedPath {
                id: PathId::from_number(id),
                cell,
                settings,
                group,
            })));
        }
    }

    /// Enters a path into the registry. Returns its cell and the counters of its group.
    fn enter(
        &mut self,
        id: u64,
        name: PathBuf,
        slot: u32,
        group: Option<&GroupSlot>,
        device: &OpenedDevice,
    ) -> Option<(Arc<StatusCell>, Arc<GroupCell>)> {
        let group_name = group.map(|group| &*group.name);
        let group_slot = group.map_or(NO_GROUP, |group| group.slot);
        let info = PathInfo::new(name, device.identity.device, group_name);
        let info = Arc::new(info.with_details(device.details.clone()));
        let cell = Arc::new(StatusCell::over(info, self.segment.cell(slot)?));
        let known = (device.storage.clone(), device.identity);
        let id = PathId::from_number(id);
        let entered = self.registry.write().insert(id, &cell, known, 0);
        if let Err(problem) = entered {
            tracing::error!(%problem, "the supervisor watches a device twice");
            return None;
        }
        let latencies = match self.groups.get(&group_slot) {
            Some(known) if known.name() == group_name => Arc::clone(known),
            _ => {
                let latencies = self.segment.group(group_slot)?;
                let new = Arc::new(GroupCell::over(group_name, latencies));
                self.groups.insert(group_slot, Arc::clone(&new));
                new
            }
        };
        if self.names.is_none() {
            let workers = vec![self.worker.env.clone()];
            self.names = Some(NameWatch::start(self.interval, workers));
        }
        Some((cell, latencies))
    }

    /// The supervisor decided about a device that the name of a path leads to.
    fn decide(&mut self, id: u64, decision: NameDecision) {
        let device = self.parked.leads_to().remove(&id);
        let Some(device) = device else {
            return;
        };
        let id = PathId::from_number(id);
        let decision = match decision {
            // The registry here knows fewer paths, and may not know of the last removal yet.
            NameDecision::Follow => self.registry.write().decide_reopened(id, &device.opened()),
            NameDecision::KeepDevice(news) => {
                self.registry.write().set_elsewhere(id);
                NameDecision::KeepDevice(news)
            }
            NameDecision::NotWatched => NameDecision::NotWatched,
        };
        self.worker.env.answer(id, device, decision);
    }

    /// Reports when the worker has closed a file.
    fn report_closed(&self, request: u64, closings: Receiver<Closing>) {
        let link = Arc::clone(&self.link);
        spawn("pathpulse-close", move || {
            if let Ok(closing) = closings.recv() {
                closing.wait(Mono::from_nanos(u64::MAX));
            }
            link.send(&ReportMsg::Closed { request });
        });
    }

    fn answer(&self, request: u64) {
        let (reply, replies) = channel();
        self.worker.send(WorkerMsg::Answer(reply));
        let link = Arc::clone(&self.link);
        spawn("pathpulse-answer", move || {
            let _ = replies.recv();
            link.send(&ReportMsg::Pong { request });
        });
    }

    /// Stops the worker, and ends the process.
    fn stop(&self, deadline: Mono) -> ! {
        let (reply, replies) = channel();
        self.worker.send(WorkerMsg::Stop(deadline, reply));
        let left = deadline.since(Mono::now()) + STOP_GRACE;
        if let Ok(held) = replies.recv_timeout(left) {
            self.link.send(&ReportMsg::Stopped { held: held as u64 });
        }
        exit_now(0)
    }
}

/// Sends events until the worker ends.
fn send_events(events: &EventStream, link: &Link) {
    while let Some(event) = events.next() {
        link.send(&ReportMsg::Event {
            id: event.id.number(),
            time: event.time,
            from: event.from,
            to: event.to,
            cause: event.cause,
            detail: event.detail,
        });
        let lost = events.take_lost();
        if lost > 0 {
            link.send(&ReportMsg::Lost { events: lost });
        }
    }
}

/// Closing a device runs its driver, which may wait for the device.
fn drop_device(device: Option<Box<Device>>) {
    if device.is_some() {
        spawn("pathpulse-close", move || drop(device));
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned());
    if let Err(error) = thread.spawn(work) {
        tracing::error!(%error, "no thread ({name})");
    }
}
