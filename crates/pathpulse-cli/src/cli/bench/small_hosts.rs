//! The cost of the daemon on a small host, where a wake-up costs more than a check.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pathpulse_faultdisk::PlainDisks;
use serde::Serialize;

use super::daemon::{MEMORY, SIZE_BYTES, median_of, round};
use super::daemon_process::BenchDaemon;

/// Numbers of paths, each path with its own device.
const HOSTS: [usize; 2] = [4, 16];
/// Four times the default rate, as for a database.
const INTERVAL: &str = "500ms";

/// An idle host with few paths.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SmallHost {
    pub(crate) paths: usize,
    pub(crate) interval: &'static str,
    /// All threads, as a percentage of one CPU; the median of the windows.
    pub(crate) cpu_percent: f64,
    /// All threads.
    pub(crate) wakeups_per_s: f64,
    /// The worker alone: the wake-ups that checks need.
    pub(crate) worker_wakeups_per_s: f64,
    pub(crate) checks_per_s: f64,
}

/// Runs the daemon on hosts with few paths.
///
/// # Errors
/// The devices or the daemon cannot be started.
pub(crate) fn measure(program: &Path, stop: &AtomicBool) -> Result<Vec<SmallHost>, String> {
    let hosts = HOSTS.iter().take_while(|_| !stop.load(Relaxed));
    hosts.map(|paths| host(program, *paths, stop)).collect()
}

fn host(program: &Path, paths: usize, stop: &AtomicBool) -> Result<SmallHost, String> {
    let disks = PlainDisks::new(paths, SIZE_BYTES, Path::new(MEMORY))
        .map_err(|error| format!("cannot make the devices of a small host: {error}"))?;
    let daemon = BenchDaemon::start(program, disks.paths(), INTERVAL, stop)?;
    let (windows, checks_per_s) = daemon.idle_windows(stop)?;
    Ok(SmallHost {
        paths,
        interval: INTERVAL,
        cpu_percent: median_of(&windows, |window| window.cpu_percent),
        wakeups_per_s: round(median_of(&windows, |window| window.wakeups_per_s)),
        worker_wakeups_per_s: round(median_of(&windows, |window| window.worker_wakeups_per_s)),
        checks_per_s: round(checks_per_s),
    })
}
