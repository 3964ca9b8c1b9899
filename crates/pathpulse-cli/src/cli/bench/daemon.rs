//! Measures the daemon: its cost while it is idle, and the times until it detects a silent path and
//! until it has reloaded its configuration.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_bench::Spread;
use pathpulse_faultdisk::{Behaviour, PlainDisks, Rig, Spec};
use serde::Serialize;
use serde_json::Value;

use super::baseline;
use super::daemon_process::{BenchDaemon, IdleWindow, PATIENCE, WINDOW, WINDOWS};
use crate::cli::Failure;
use crate::cli::client::Client;

/// Paths with their own devices, in addition to the one that becomes silent.
const PATHS: usize = 1000;
pub(super) const SIZE_BYTES: u64 = 1 << 20;
pub(super) const MEMORY: &str = "/dev/shm";
/// Interval and timeout of checks.
const INTERVAL: &str = "2s";
const INTERVAL_SPAN: Duration = Duration::from_secs(2);
/// How often the path becomes silent, each time in another phase of its interval.
const SILENCES: u32 = 5;
const PHASE: Duration = Duration::from_millis(430);
/// Number of reloads.
const RELOADS: usize = 15;
/// The measurements of the daemon.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DaemonFigures {
    pub(crate) paths: usize,
    pub(crate) interval: &'static str,
    /// All threads, as a percentage of one CPU; the median of the windows.
    pub(crate) cpu_percent: f64,
    /// The same of the yardstick, which reads the same devices at the same rate, as many at a time
    /// as the daemon; `None` if it does not work here.
    pub(crate) lean_cpu_percent: Option<f64>,
    /// The same if it starts all reads of a slot at once.
    pub(crate) lean_at_once_cpu_percent: Option<f64>,
    pub(crate) wakeups_per_s: f64,
    pub(crate) checks_per_s: f64,
    /// System calls of the whole process.
    pub(crate) syscalls_per_check: Option<f64>,
    pub(crate) syscalls_reason: Option<String>,
    /// Anonymous memory of the whole process.
    pub(crate) memory_kib: u64,
    /// Time from the silence of a device to the event that reports it.
    pub(crate) detection_ms: Option<Spread>,
    pub(crate) detection_reason: Option<String>,
    /// Time from a request to reload the configuration, which has not changed, to the answer.
    pub(crate) reload_ms: Option<Spread>,
    /// The same with a stuck read.
    pub(crate) reload_stuck_ms: Option<Spread>,
    pub(crate) reload_reason: Option<String>,
}

/// Runs the daemon on simulated paths.
///
/// # Errors
/// The devices or the daemon cannot be started.
pub(crate) fn measure(program: &Path, stop: &AtomicBool) -> Result<DaemonFigures, String> {
    let failed = |error: std::io::Error| format!("cannot make the devices of the daemon: {error}");
    let disks = PlainDisks::new(PATHS, SIZE_BYTES, Path::new(MEMORY)).map_err(failed)?;
    let mut server = Command::new(program);
    server.arg("rig-server");
    let rig = Rig::start_with(server, &Spec::loops(1)).map_err(failed)?;
    let silent = rig.disk(0).path();
    let mut paths = disks.paths().to_vec();
    paths.push(silent.to_owned());
    let daemon = BenchDaemon::start(program, &paths, INTERVAL, stop)?;
    let (windows, checks_per_s) = daemon.idle_windows(stop)?;
    let memory_kib = daemon.usage().memory_kib;
    let syscalls = daemon.syscalls_per_s();
    let per_check = |calls: f64| round(calls / checks_per_s);
    let detection = daemon.detections(&rig, silent, stop);
    // The stream of events starts with the past ones, so reloads come after the detections.
    let reloads = daemon.reloads(&rig, silent, stop);
    drop(daemon);
    let lean = |at_a_time| {
        let window = |_| baseline::yardstick(disks.paths(), at_a_time, INTERVAL_SPAN, WINDOW, stop);
        let percents = (0..WINDOWS).map(window).collect::<Result<Vec<f64>, _>>();
        median(&percents.ok()?)
    };
    Ok(DaemonFigures {
        paths: paths.len(),
        interval: INTERVAL,
        cpu_percent: median_of(&windows, |window| window.cpu_percent),
        lean_cpu_percent: lean(baseline::AT_A_TIME),
        lean_at_once_cpu_percent: lean(PATHS),
        wakeups_per_s: median_of(&windows, |window| window.wakeups_per_s),
        checks_per_s: round(checks_per_s),
        syscalls_per_check: syscalls.as_ref().ok().map(|calls| per_check(*calls)),
        syscalls_reason: syscalls.err(),
        memory_kib,
        detection_ms: detection.as_ref().ok().copied(),
        detection_reason: detection.err(),
        reload_ms: reloads.as_ref().ok().and_then(|both| both[0]),
        reload_stuck_ms: reloads.as_ref().ok().and_then(|both| both[1]),
        reload_reason: reloads.err(),
    })
}

fn median(figures: &[f64]) -> Option<f64> {
    Some(Spread::of(figures)?.median)
}

/// The median of a figure of all windows.
pub(super) fn median_of(windows: &[IdleWindow], figure: fn(&IdleWindow) -> f64) -> f64 {
    median(&windows.iter().map(figure).collect::<Vec<f64>>()).unwrap_or_default()
}

/// Rounds to four decimals.
pub(super) fn round(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

impl BenchDaemon {
    /// The times of reloads, without and with a stuck read.
    fn reloads(
        &self,
        rig: &Rig,
        silent: &Path,
        stop: &AtomicBool,
    ) -> Result<[Option<Spread>; 2], String> {
        let failed = |error: std::io::Error| format!("cannot control the silent device: {error}");
        let idle = self.reload_ms()?;
        rig.set(0, Behaviour::Hang).map_err(failed)?;
        let is_stuck = |path: &Value| is_about(path, silent) && path["stuck_ms"].is_u64();
        if !self.wait_paths(|all| all.iter().any(is_stuck), stop) {
            return Err("no read of the silent path is stuck".to_owned());
        }
        let stuck = self.reload_ms();
        rig.recover(0).map_err(failed)?;
        Ok([Spread::of(&idle), Spread::of(&stuck?)])
    }

    fn reload_ms(&self) -> Result<Vec<f64>, String> {
        let message = |failure: Failure| failure.message();
        let mut client = Client::connect(&self.socket).map_err(message)?;
        let mut took_ms = Vec::new();
        for _ in 0..RELOADS {
            let begin = Instant::now();
            let done: Value = client.post("/v1/reload", &(), PATIENCE).map_err(message)?;
            took_ms.push(begin.elapsed().as_secs_f64() * 1e3);
            if done["changed"] != 0 || done["unchanged"] != PATHS + 1 {
                return Err(format!("a reload changed something: {done}"));
            }
        }
        Ok(took_ms)
    }

    /// The times from the silence of the device to the event that its path is down.
    fn detections(&self, rig: &Rig, silent: &Path, stop: &AtomicBool) -> Result<Spread, String> {
        let mut follow = self
            .command(&["events", "--follow", "--format", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot follow the events of the daemon: {error}"))?;
        let events = events(&mut follow);
        let mut took_ms = Vec::new();
        let failed = |error: std::io::Error| format!("cannot control the silent device: {error}");
        for nth in 0..SILENCES {
            if stop.load(Relaxed) {
                break;
            }
            thread::sleep(PHASE * nth);
            rig.set(0, Behaviour::Hang).map_err(failed)?;
            let begin = Instant::now();
            let seen = wait(&events, silent, |event| event["to"] == "down");
            rig.recover(0).map_err(failed)?;
            took_ms.push((seen? - begin).as_secs_f64() * 1e3);
            // Up, or marginal because of the many changes.
            wait(&events, silent, |event| event["to"] != "down")?;
        }
        let _ = follow.kill();
        let _ = follow.wait();
        Spread::of(&took_ms).ok_or_else(|| "the silence was not measured".to_owned())
    }
}

/// The events, each with the time of its arrival.
fn events(follow: &mut Child) -> Receiver<(Instant, Value)> {
    let (sender, events) = channel();
    if let Some(stdout) = follow.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::Null);
                if sender.send((Instant::now(), event)).is_err() {
                    break;
                }
            }
        });
    }
    events
}

/// Whether the document of an event or a path is about this path.
fn is_about(document: &Value, path: &Path) -> bool {
    document["path"].as_str().map(Path::new) == Some(path)
}

/// Waits until the path changes to a wanted state, and returns the time of that.
fn wait(
    events: &Receiver<(Instant, Value)>,
    path: &Path,
    is_wanted: impl Fn(&Value) -> bool,
) -> Result<Instant, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let (at, event) = events
            .recv_timeout(left)
            .map_err(|_| "the daemon did not report the change in its events".to_owned())?;
        if is_about(&event, path) && event["from"] != event["to"] && is_wanted(&event) {
            return Ok(at);
        }
    }
}
