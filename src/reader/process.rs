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

use pathpulse_kernel_compat::{Child, Closed, KernelError};

use super::codec::{FrameReader, Malformed, put_frame};
use super::message::{CommandMsg, GroupSlot, ReportMsg, VERSION};
use super::segment::{GROUPS_MAX, NO_GROUP, PATHS_MAX, Segment, Slots};
use super::serve::{MEMORY, SOCKET};
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
    pub(super) group_slot: u32,
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
    /// Slots that the reader does not use any more, but others may read.
    resting: Vec<(u32, Weak<StatusCell>)>,
    frames: FrameReader,
    unsent: Vec<u8>,
    cells: Slots,
    groups: HashMap<String, (u32, usize)>,
    group_slots: Slots,
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
        let mut group_slots = Slots::default();
        let without = group_slots.take(GROUPS_MAX);
        debug_assert_eq!(without, Some(NO_GROUP));
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
            resting: Vec::new(),
            frames: FrameReader::default(),
            unsent: Vec::new(),
            cells: Slots::default(),
            groups: HashMap::new(),
            group_slots,
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

    /// A slot for a path, and for its group; `None` if the reader is full.
    pub(super) fn allocate(&mut self, group: Option<&str>) -> Option<(u32, Option<GroupSlot>)> {
        let cell = self.cells.take(PATHS_MAX)?;
        let Some(name) = group else {
            return Some((cell, None));
        };
        let known = self.groups.get(name).map(|(slot, _)| *slot);
        let Some(slot) = known.or_else(|| self.new_group()) else {
            self.cells.release(cell);
            return None;
        };
        self.groups.entry(name.to_owned()).or_insert((slot, 0)).1 += 1;
        let name = name.to_owned();
        Some((cell, Some(GroupSlot { name, slot })))
    }

    /// Whether this path, for which slots were allocated, is the only one of its group here.
    pub(super) fn is_first_of_group(&self, record: &PathRecord) -> bool {
        let group = record.group.as_ref().and_then(|name| self.groups.get(name));
        group.is_some_and(|(_, members)| *members == 1)
    }

    fn new_group(&mut self) -> Option<u32> {
        let slot = self.group_slots.take(GROUPS_MAX)?;
        self.segment.group(slot)?.clear();
        Some(slot)
    }

    /// Forgets a path. Its cell is used again when the reader has answered this request, and nobody
    /// reads it any more.
    pub(super) fn forget(&mut self, id: PathId, request: u64) {
        if let Some(record) = self.paths.remove(&id) {
            self.leave_group(record.group.as_deref());
            let unused = Request::Unused(record.slot, record.cell);
            self.requests.insert(request, unused);
        }
    }

    /// The reader no longer writes to this cell.
    pub(super) fn rest(&mut self, slot: u32, cell: Weak<StatusCell>) {
        self.resting.push((slot, cell));
    }

    /// Gives slots back that nobody reads any more.
    pub(super) fn release_rested(&mut self) {
        let cells = &mut self.cells;
        self.resting.retain(|(slot, cell)| {
            let is_read = cell.strong_count() > 0;
            if !is_read {
                cells.release(*slot);
            }
            is_read
        });
    }

    /// Gives the slots of a path back that nobody used.
    pub(super) fn release(&mut self, cell: u32, group: Option<&str>) {
        self.cells.release(cell);
        self.leave_group(group);
    }

    fn leave_group(&mut self, group: Option<&str>) {
        if let Some(name) = group
            && let Some((slot, members)) = self.groups.get_mut(name)
        {
            *members -= 1;
            if *members == 0 {
                self.group_slots.release(*slot);
                self.groups.remove(name);
            }
        }
    }
}
