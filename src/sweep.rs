//! Sweeps: check all paths of a fixed set at once, again and again, on the caller's thread.
//!
//! A sweep uses the same engine as a [`crate::Monitor`] (reads, deadlines, verdicts, states,
//! status), but without its thread and its schedule. It is for programs that have these themselves,
//! and for benchmarks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use pathpulse_kernel_compat::{Choice, Key, Stats, open_backend};

use crate::config::StartError;
use crate::device::{Device, OpenError};
use crate::settings::Settings;
use crate::status::{PathId, PathInfo, PathStatus, StatusCell};
use crate::worker::{BEGUN_PER_TICK, NewPath, Worker, WorkerMsg};

/// Longer than any program runs, so that no check becomes due.
const NEVER: Duration = Duration::from_secs(1 << 32);

/// Number of paths to open before polling for their first completions. The kernel posts about
/// twenty completions when it is not asked to wait, and each read has two.
const OPENED_PER_POLL: usize = 8;

/// A set of paths to sweep. It may contain a path several times.
pub struct Sweep {
    worker: Worker,
    keys: Vec<Key>,
    cells: Vec<Arc<StatusCell>>,
    _commands: SyncSender<WorkerMsg>,
}

/// Result of one sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Number of paths with a verdict.
    pub checked: usize,
    /// Number of paths that were not read, because an earlier read is stuck.
    pub skipped: usize,
}

impl Sweep {
    /// Opens the paths on this thread. The sweep must stay on the thread that created it.
    ///
    /// # Errors
    /// If no backend is available, or with the first path that can't be opened.
    pub fn new(paths: &[PathBuf], timeout: Duration, backend: Choice) -> Result<Sweep, SweepError> {
        let expected = u32::try_from(paths.len()).unwrap_or(u32::MAX);
        let backend = open_backend(backend, expected)
            .map_err(|tried| SweepError::Start(StartError::NoBackend(tried)))?
            .backend;
        let (commands, inbox) = sync_channel(1);
        let settings = Settings {
            interval: NEVER,
            timeout,
            ..Settings::default()
        };
        let group = Arc::default();
        let mut worker = Worker::new(backend, settings, inbox, None);
        let (mut keys, mut cells) = (Vec::new(), Vec::new());
        for (number, path) in paths.iter().enumerate() {
            let device = Device::open(path)
                .map_err(|problem| SweepError::Path(OpenError::new(path, problem)))?;
            let info = PathInfo::new(path.clone(), device.identity.device, None);
            let cell = Arc::new(StatusCell::new(Arc::new(info)));
            cells.push(Arc::clone(&cell));
            let new = NewPath {
                id: PathId::from_number(number as u64),
                device,
                cell,
                settings,
                group: Arc::clone(&group),
                once: None,
            };
            keys.push(worker.add(new));
            if number % OPENED_PER_POLL == OPENED_PER_POLL - 1 {
                // Completed reads free their buffers for the next ones.
                worker.poll();
            }
        }
        let mut sweep = Sweep {
            worker,
            keys,
            cells,
            _commands: commands,
        };
        sweep.finish();
        Ok(sweep)
    }

    /// Checks all paths. Returns when each has its verdict, after the timeout at the latest. If the
    /// backend breaks, all verdicts are [`Verdict::Unknown`](crate::Verdict::Unknown) from then on,
    /// and a new sweep is needed.
    pub fn run(&mut self) -> Swept {
        let mut swept = Swept::default();
        for keys in self.keys.chunks(BEGUN_PER_TICK) {
            let now = self.worker.now();
            for key in keys {
                if self.worker.begin(*key, now) {
                    swept.checked += 1;
                } else {
                    swept.skipped += 1;
                }
            }
        }
        self.finish();
        swept
    }

    /// Runs until no check is left.
    fn finish(&mut self) {
        while self.worker.is_checking() {
            self.worker.tick_while_checking();
        }
    }

    /// Status of the paths, in the order of the list.
    pub fn status(&self) -> impl Iterator<Item = PathStatus> {
        self.cells.iter().map(|cell| cell.snapshot())
    }

    /// Counters of the backend.
    pub fn stats(&self) -> Stats {
        self.worker.stats()
    }
}

/// Why a [`Sweep`] can't be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepError {
    /// No backend is available.
    Start(StartError),
    /// A path can't be opened.
    Path(OpenError),
}

impl std::fmt::Display for SweepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SweepError::Start(error) => error.fmt(f),
            SweepError::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SweepError {}
