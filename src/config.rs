//! How a monitor is started, what carries its checks, and what is left when it ends.

use std::fmt;

use pathpulse_kernel_compat::{
    BackendKind, Choice, KernelError, Opened, RingFeatures, Unavailable,
};

use crate::settings::Settings;

/// How a [`Monitor`](crate::Monitor) checks.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What carries the checks to the kernel.
    pub backend: Choice,
    /// Threads that check, each with a ring and a share of the paths; at least 1. One serves ten
    /// thousand paths. The paths of a group are all with the same one.
    pub workers: usize,
    /// How paths are watched that have no settings of their own.
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            backend: Choice::Auto,
            workers: 1,
            settings: Settings::default(),
        }
    }
}

/// What carries the checks to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Which backend.
    pub kind: BackendKind,
    /// Which of io_uring's features it uses, if it is one of io_uring.
    pub features: Option<RingFeatures>,
    /// The better backends that were tried before, and why they can't be used here.
    pub unavailable: Vec<Unavailable>,
}

impl BackendInfo {
    pub(crate) fn of(opened: &Opened) -> BackendInfo {
        BackendInfo {
            kind: opened.backend.kind(),
            features: opened.features,
            unavailable: opened.unavailable.clone(),
        }
    }
}

/// Why nothing can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The backends that were tried, and why none can be used here.
    NoBackend(Vec<Unavailable>),
    /// There is no thread to be had.
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

/// What was left when a monitor was shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Reads that the kernel still has; their buffers are leaked on purpose.
    pub held_reads: usize,
    /// Workers that did not answer in time.
    pub silent_workers: usize,
}
