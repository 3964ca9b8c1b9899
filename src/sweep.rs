//! Sweeps: all paths of a fixed set are checked at once, again and again, on the caller's thread.
//!
//! The whole engine works as in a [`crate::Monitor`] (reads, deadlines, verdicts, states, status),
//! without its thread and its timetable. For programs that bring their own, and for benchmarks.

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

/// Longer than any program runs: nothing becomes due by itself.
const NEVER: Duration = Duration::from_secs(1 << 32);

/// How many paths are opened before their first checks are looked at: the kernel posts about twenty
/// completions when it is not to wait for them, and a read makes two.
const OPENED_PER_LOOK: usize = 8;

/// A set of paths to be swept. The same path may be in it more than once.
pub struct Sweep {
    worker: Worker,
    keys: Vec<Key>,
    cells: Vec<Arc<StatusCell>>,
    _commands: SyncSender<WorkerMsg>,
}

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Paths that were given a verdict.
    pub checked: usize,
    /// Paths that were left alone, because a read of theirs is stuck.
    pub skipped: usize,
}

impl Sweep {
    /// PendingOpens the paths, on this thread. Has to be used on the thread that made it.
    ///
    /// # Errors
    /// When the kernel offers no way to check, or the first path that can't be opened.
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
            let device = Device::open(path).map_err(|problem| {
                SweepError::Path(OpenError {
                    path: path.clone(),
                    problem,
                })
            })?;
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
            if number % OPENED_PER_LOOK == OPENED_PER_LOOK - 1 {
                // What has ended gives its buffer to the next.
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

    /// Checks all paths, and returns when each has its verdict: after the timeout at the latest. Once the
    /// backend broke, each verdict is [`Verdict::Unknown`](crate::Verdict::Unknown): make another sweep.
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

    /// Works until no check is going on.
    fn finish(&mut self) {
        while self.worker.is_checking() {
            self.worker.tick_while_checking();
        }
    }

    /// How the paths are, in the order of their list.
    pub fn status(&self) -> impl Iterator<Item = PathStatus> {
        self.cells.iter().map(|cell| cell.snapshot())
    }

    /// What the backend holds and did.
    pub fn stats(&self) -> Stats {
        self.worker.stats()
    }
}

/// Why there is no [`Sweep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepError {
    /// The kernel offers no way to check.
    Start(StartError),
    /// A path can't be checked.
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
