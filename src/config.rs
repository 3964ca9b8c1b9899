//! Parameters and results of a monitor as a whole: [`Config`], [`StartError`], [`ShutdownReport`].

use std::fmt;
use std::path::PathBuf;

use pathpulse_kernel_compat::{
    BackendKind, Choice, KernelError, Opened, RingFeatures, Unavailable,
};

use crate::settings::Settings;

/// Configuration of a [`Monitor`](crate::Monitor).
#[derive(Clone, Debug)]
pub struct Config {
    /// The backend that submits reads to the kernel.
    pub backend: Choice,
    /// Number of worker threads, each with a backend of its own and a share of the paths; at least
    /// 1. One is enough for ten thousand paths. All paths of a group belong to the same worker.
    pub workers: usize,
    /// Defaults for paths without settings of their own.
    pub settings: Settings,
    /// Where the workers run.
    pub isolation: Isolation,
}

/// Where the workers of a monitor run.
///
/// No thread is safe from the device that it reads: a driver may put whoever submits a read to
/// sleep for as long as it likes, and a process ends only with its last thread. So a program whose
/// threads read cannot promise to end, nor that one device does not delay the others. Processes can
/// promise it: a reader that hangs is killed, and another one continues with its paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In threads of this process.
    #[default]
    Threads,
    /// In processes of their own, which this process starts and watches: only they open and read
    /// devices.
    Processes {
        /// The program: `pathpulse`, or another one that calls [`run_reader`](crate::run_reader)
        /// when its argument is `reader`.
        program: PathBuf,
    },
}

impl Default for Config {
    fn default() -> Config {
        Config {
            backend: Choice::Auto,
            workers: 1,
            settings: Settings::default(),
            isolation: Isolation::default(),
        }
    }
}

/// The backend that submits reads to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Which backend.
    pub kind: BackendKind,
    /// The io_uring features in use, if the backend is io_uring.
    pub features: Option<RingFeatures>,
    /// Better backends that were tried first, and why they are not available.
    pub unavailable: Vec<Unavailable>,
}

impl BackendInfo {
    /// Of a reader that has not reported its backend yet.
    pub(crate) fn unknown() -> BackendInfo {
        BackendInfo {
            kind: BackendKind::Sync,
            features: None,
            unavailable: Vec::new(),
        }
    }

    pub(crate) fn of(opened: &Opened) -> BackendInfo {
        BackendInfo {
            kind: opened.backend.kind(),
            features: opened.features,
            unavailable: opened.unavailable.clone(),
        }
    }
}

/// Why a monitor can't start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The backends that were tried, and why none is available.
    NoBackend(Vec<Unavailable>),
    /// No thread could be started.
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

/// What remained when a monitor was shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Reads that the kernel still holds. Their buffers are leaked on purpose.
    pub held_reads: usize,
    /// Workers that did not respond in time.
    pub silent_workers: usize,
}
