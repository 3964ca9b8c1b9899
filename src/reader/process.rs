//! One reader, as its supervisor sees it: the process, the connection, the shared memory, and which
//! paths it has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Instant;

use pathpulse_kernel_compat::{Child, Closed, Closing, KernelError};

use super::codec::{FrameReader, Malformed, put_frame};
use super::message::{CommandMsg, ReportMsg, VERSION};
use super::segment::Segment;
use super::serve::{MEMORY, SOCKET};
use super::slots::SlotTable;
use crate::config::{BackendInfo, Config};
use crate::device::{OpenProblem, OpenedDevice};
use crate::health::State;
use crate::settings::Settings;
use crate::status::{PathId, Progress, StatusCell};

/// Commands that may wait for a reader, in bytes. One that takes none for so long is replaced.
const QUEUE_MAX: usize = 64 << 20;

/// What a reader was asked, and who waits for the answer.
pub(super) enum Request {
    /// Dropped when the file is closed.
    Closed(#[expect(dead_code, reason = "only its drop matters")] Closed),
    Answer(Sender<()>),
    /// The reader no longer writes to this cell.
    Unused(u32, Weak<StatusCell>),
}

/// What happened to a name that was to be opened.
pub(crate) enum OpenReport {
    Opened(OpenedBy),
    Failed(OpenProblem),
}

/// A device that a reader has opened, and the number of that process.
pub(crate) struct OpenedBy {
    pub(crate) device: Box<OpenedDevice>,
    pub(crate) reader: u32,
}

/// A name that a reader opens.
pub(super) struct Opening {
    pub(super) name: PathBuf,
    pub(super) reports: Sender<(PathId, OpenReport)>,
}

/// A path of a reader: what another one needs to continue.
pub(super) struct PathRecord {
    pub(super) name: PathBuf,
    pub(super) slot: u32,
    pub(super) group: Option<String>,
    pub(super) settings: Settings,
    pub(super) device: OpenedDevice,
    /// Its state by its last event.
    pub(super) shown: State,
    /// Its cell. Whoever removed the path may read that for some time.
    pub(super) cell: Weak<StatusCell>,
}

pub(super) struct ReaderProcess {
    pub(super) child: Arc<Child>,
    pub(super) socket: Arc<UnixStream>,
    pub(super) segment: Segment,
    pub(super) progress: Progress,
    pub(super) backend: Option<BackendInfo>,
    pub(super) paths: HashMap<PathId, PathRecord>,
    pub(super) opening: HashMap<PathId, Opening>,
    pub(super) requests: HashMap<u64, Request>,
    pub(super) started: Instant,
    /// No report will come any more.
    pub(super) has_ended: bool,
    /// Its end, or that it hangs, was logged.
    pub(super) is_logged: bool,
    pub(super) slots: SlotTable,
    last_request: u64,
    frames: FrameReader,
    unsent: Vec<u8>,
}

impl ReaderProcess {
    /// Starts a reader. Call it on a thread that lives as long as the reader shall.
    pub(super) fn start(program: &Path, config: &Config) -> Result<ReaderProcess, KernelError> {
        let segment = Segment::create()?;
        let (ours, theirs) = UnixStream::pair().map_err(KernelError::of("socketpair"))?;
        let nonblocking = ours.set_nonblocking(true);
        nonblocking.map_err(KernelError::of("fcntl"))?;
        let memory = segment.file().try_clone_to_owned();
        let memory = memory.map_err(KernelError::of("fcntl"))?;
        let files = vec![(theirs.into(), SOCKET), (memory, MEMORY)];
        let child = Child::start(program, &[OsStr::new("reader")], files)?;
        let mut reader = ReaderProcess {
            child: Arc::new(child),
            socket: Arc::new(ours),
            progress: segment.progress(),
            segment,
            backend: None,
            paths: HashMap::new(),
            opening: HashMap::new(),
            requests: HashMap::new(),
            started: Instant::now(),
            has_ended: false,
            is_logged: false,
            slots: SlotTable::default(),
            last_request: 0,
            frames: FrameReader::default(),
            unsent: Vec::new(),
        };
        reader.send(&CommandMsg::Hello {
            version: VERSION,
            backend: config.backend,
            settings: config.settings,
        });
        Ok(reader)
    }

    /// Sends a command; what the socket has no room for follows later.
    pub(super) fn send(&mut self, message: &CommandMsg) {
        if put_frame(message, &mut self.unsent).is_ok() {
            self.flush();
        }
    }

    /// Sends what is left, as far as the socket has room.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match (&*self.socket).write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Full, or the reader is gone, which the supervisor notices.
                Err(_) => break,
            }
        }
        self.unsent.drain(..sent);
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// It takes no commands although there are many.
    pub(super) fn is_clogged(&self) -> bool {
        self.unsent.len() > QUEUE_MAX
    }

    /// The reports that have arrived. Returns `false` if no more will come.
    pub(super) fn receive(&mut self, reports: &mut Vec<ReportMsg>) -> Result<bool, Malformed> {
        let mut buffer = [0; 1 << 16];
        loop {
            match (&*self.socket).read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.frames.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(error.kind() == io::ErrorKind::WouldBlock),
            }
            while let Some(report) = self.frames.next()? {
                reports.push(report);
            }
        }
    }

    /// Notes that a command asks for an answer. Returns the number for the command.
    pub(super) fn request(&mut self, request: Request) -> u64 {
        self.last_request += 1;
        self.requests.insert(self.last_request, request);
        self.last_request
    }

    /// Notes that a command asks for the end of a file, of which `closing` learns.
    pub(super) fn request_closed(&mut self, closing: &Sender<Closing>) -> u64 {
        let (closed, closes) = Closing::pair();
        let _ = closing.send(closes);
        self.request(Request::Closed(closed))
    }

    /// Watches a path no longer. Its cell is used again when the reader has answered that, and
    /// nobody reads it any more.
    pub(super) fn remove(&mut self, id: PathId, closing: &Sender<Closing>) {
        let request = self.request_closed(closing);
        let number = id.number();
        self.send(&CommandMsg::Remove {
            id: number,
            request,
        });
        if let Some(record) = self.paths.remove(&id) {
            self.slots.leave_group(record.group.as_deref());
            let request = self.request(Request::Unused(record.slot, record.cell));
            self.send(&CommandMsg::Ping { request });
        }
    }

    /// Takes the place of a reader that ended: its slots, and who waits for it. Who waits for a
    /// file to be closed is left with the process that has it.
    pub(super) fn inherit(&mut self, old: &mut ReaderProcess) {
        self.slots = std::mem::take(&mut old.slots);
        old.requests.retain(|_, request| match request {
            Request::Closed(_) => true,
            Request::Answer(_) => false,
            Request::Unused(slot, _) => {
                self.slots.release(*slot);
                false
            }
        });
        self.slots.move_to(&self.segment, &old.segment);
        for (id, opening) in old.opening.drain() {
            self.open(id, opening);
        }
    }

    /// Has a name opened.
    pub(super) fn open(&mut self, id: PathId, opening: Opening) {
        let (number, name) = (id.number(), opening.name.clone());
        self.send(&CommandMsg::Open { id: number, name });
        self.opening.insert(id, opening);
    }
}
