//! What the daemon costs on a small host, where a wake-up counts more than a check.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pathpulse_faultdisk::PlainDisks;
use serde::Serialize;

use super::daemon::{Daemon, MEMORY, SIZE_BYTES, of_windows, round};

/// Paths of the hosts, each path with a device of its own.
const HOSTS: [usize; 2] = [4, 16];
/// Ten times as often as usual, as a database wants it.
const INTERVAL: &str = "500ms";

/// A host at rest.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SmallHost {
    pub(crate) paths: usize,
    pub(crate) interval: &'static str,
    /// Of one CPU, all threads; the median of some windows.
    pub(crate) cpu_percent: f64,
    /// Of all threads.
    pub(crate) wakeups_per_s: f64,
    /// Of the worker alone: those that checks need.
    pub(crate) worker_wakeups_per_s: f64,
    pub(crate) checks_per_s: f64,
}

/// Runs the daemon on hosts of few paths.
///
/// # Errors
/// What is missing.
pub(crate) fn measure(program: &Path, stop: &AtomicBool) -> Result<Vec<SmallHost>, String> {
    let hosts = HOSTS.iter().take_while(|_| !stop.load(Relaxed));
    hosts.map(|paths| host(program, *paths, stop)).collect()
}

fn host(program: &Path, paths: usize, stop: &AtomicBool) -> Result<SmallHost, String> {
    let disks = PlainDisks::new(paths, SIZE_BYTES, Path::new(MEMORY))
        .map_err(|error| format!("the devices of a small host: {error}"))?;
    let daemon = Daemon::start(program, disks.paths(), INTERVAL, stop)?;
    let (rests, checks_per_s) = daemon.rests(stop)?;
    Ok(SmallHost {
        paths,
        interval: INTERVAL,
        cpu_percent: of_windows(&rests, |rest| rest.cpu_percent),
        wakeups_per_s: round(of_windows(&rests, |rest| rest.wakeups_per_s)),
        worker_wakeups_per_s: round(of_windows(&rests, |rest| rest.worker_wakeups_per_s)),
        checks_per_s: round(checks_per_s),
    })
}
