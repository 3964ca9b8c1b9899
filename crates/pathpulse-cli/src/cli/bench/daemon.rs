//! The daemon as a benchmark sees it: what it costs while nothing happens, and how long it takes to
//! see that a path is silent. It is the real one, in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_bench::Spread;
use pathpulse_faultdisk::{Behaviour, PlainDisks, Rig, Spec};
use serde::Serialize;
use serde_json::Value;

use super::rest;
use crate::cli::Failure;
use crate::cli::client::Client;

/// Paths with devices of their own, beside the one that falls silent.
const PATHS: usize = 1000;
pub(super) const SIZE_BYTES: u64 = 1 << 20;
pub(super) const MEMORY: &str = "/dev/shm";
/// From check to check, and how long one may take.
const INTERVAL: &str = "2s";
const INTERVAL_SPAN: Duration = Duration::from_secs(2);
/// How often and how long the daemon is watched while nothing happens, and how long by strace.
const WINDOWS: usize = 3;
const WINDOW: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_millis(500);
const STRACED_S: u64 = 6;
/// The path falls silent so often, each time in another phase of its interval.
const SILENCES: u32 = 5;
const PHASE: Duration = Duration::from_millis(430);
/// The configuration is read again so often.
const RELOADS: usize = 15;
/// Only a defect ever takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen of the daemon.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DaemonFigures {
    pub(crate) paths: usize,
    pub(crate) interval: &'static str,
    /// Of one CPU, all threads; the median of some windows, as that of the yardstick.
    pub(crate) cpu_percent: f64,
    /// What the yardstick takes to read from as many devices as often, as many at a time as the daemon does;
    /// `None`: there is none here.
    pub(crate) lean_cpu_percent: Option<f64>,
    /// The same if it begins all of a slot at once.
    pub(crate) lean_at_once_cpu_percent: Option<f64>,
    pub(crate) wakeups_per_s: f64,
    pub(crate) checks_per_s: f64,
    /// All of the process.
    pub(crate) syscalls_per_check: Option<f64>,
    pub(crate) syscalls_reason: Option<String>,
    /// Memory that has no file behind it, of the whole process.
    pub(crate) memory_kib: u64,
    /// From a device's silence to the event that says so.
    pub(crate) detection_ms: Option<Spread>,
    pub(crate) detection_reason: Option<String>,
    /// From the request to read the configuration again, of which nothing has changed, to the answer
    /// that this is done.
    pub(crate) reload_ms: Option<Spread>,
    /// The same while a read is stuck.
    pub(crate) reload_stuck_ms: Option<Spread>,
    pub(crate) reload_reason: Option<String>,
}

/// What it did in a while in which nothing happened.
pub(super) struct Rest {
    pub(super) cpu_percent: f64,
    pub(super) wakeups_per_s: f64,
    pub(super) worker_wakeups_per_s: f64,
}

pub(super) struct Daemon {
    child: Child,
    program: PathBuf,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

/// Runs the daemon over paths of its own.
///
/// # Errors
/// What is missing.
pub(crate) fn measure(program: &Path, stop: &AtomicBool) -> Result<DaemonFigures, String> {
    let failed = |error: std::io::Error| format!("the daemon's devices: {error}");
    let disks = PlainDisks::new(PATHS, SIZE_BYTES, Path::new(MEMORY)).map_err(failed)?;
    let mut server = Command::new(program);
    server.arg("rig-server");
    let rig = Rig::start_with(server, &Spec::loops(1)).map_err(failed)?;
    let silent = rig.disk(0).path();
    let mut paths = disks.paths().to_vec();
    paths.push(silent.to_owned());
    let daemon = Daemon::start(program, &paths, INTERVAL, stop)?;
    let (rests, checks_per_s) = daemon.rests(stop)?;
    let memory_kib = daemon.usage().memory_kib;
    let syscalls = daemon.syscalls_per_s();
    let per_check = |calls: f64| round(calls / checks_per_s);
    let detection = daemon.detections(&rig, silent, stop);
    // After that, since whoever follows events hears first what was before.
    let reloads = daemon.reloads(&rig, silent, stop);
    drop(daemon);
    let lean = |at_a_time| {
        let window = |_| rest::yardstick(disks.paths(), at_a_time, INTERVAL_SPAN, WINDOW, stop);
        let percents = (0..WINDOWS).map(window).collect::<Result<Vec<f64>, _>>();
        median(&percents.ok()?)
    };
    Ok(DaemonFigures {
        paths: paths.len(),
        interval: INTERVAL,
        cpu_percent: of_windows(&rests, |rest| rest.cpu_percent),
        lean_cpu_percent: lean(rest::AT_A_TIME),
        lean_at_once_cpu_percent: lean(PATHS),
        wakeups_per_s: of_windows(&rests, |rest| rest.wakeups_per_s),
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

/// The median of a figure of some windows.
pub(super) fn of_windows(rests: &[Rest], figure: fn(&Rest) -> f64) -> f64 {
    median(&rests.iter().map(figure).collect::<Vec<f64>>()).unwrap_or_default()
}

/// Four decimals.
pub(super) fn round(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

#[derive(Default)]
struct Usage {
    cpu_ns: u64,
    wakeups: u64,
    /// Of these, those of the threads that check.
    worker_wakeups: u64,
    memory_kib: u64,
}

impl Daemon {
    /// Starts it and waits until all paths are up.
    pub(super) fn start(
        program: &Path,
        paths: &[PathBuf],
        interval: &str,
        stop: &AtomicBool,
    ) -> Result<Daemon, String> {
        let failed = |error: std::io::Error| format!("the daemon: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let socket = folder.path().join("p.sock");
        let list = serde_json::to_string(paths).map_err(|error| error.to_string())?;
        let file = folder.path().join("pathpulse.toml");
        std::fs::write(&file, format!("paths = {list}\n")).map_err(failed)?;
        let child = Command::new(program)
            .args(["run", "--interval", interval, "--timeout", interval])
            .arg("--socket")
            .arg(&socket)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let daemon = Daemon {
            child,
            program: program.to_owned(),
            socket,
            _folder: folder,
        };
        let all_up = |all: &[Value]| {
            all.len() == paths.len() && all.iter().all(|path| path["state"] == "up")
        };
        if daemon.becomes(all_up, stop) {
            return Ok(daemon);
        }
        Err("the daemon does not get all paths up".to_owned())
    }

    /// Waits until its paths are so; `false` if they never are.
    fn becomes(&self, is_wanted: impl Fn(&[Value]) -> bool, stop: &AtomicBool) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !stop.load(Relaxed) {
            let status = self.status();
            if status
                .is_ok_and(|status| status["paths"].as_array().is_some_and(|all| is_wanted(all)))
            {
                return true;
            }
            thread::sleep(Duration::from_millis(100));
        }
        false
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--socket").arg(&self.socket);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn status(&self) -> Result<Value, String> {
        let output = self.command(&["status", "--format", "json"]).output();
        let output = output.map_err(|error| error.to_string())?;
        serde_json::from_slice(&output.stdout).map_err(|error| format!("its status: {error}"))
    }

    /// Checks made so far.
    fn checks(&self) -> Result<u64, String> {
        let status = self.status()?;
        let all = status["paths"].as_array().into_iter().flatten();
        Ok(all
            .filter_map(|path| path["checks"]["total"].as_u64())
            .sum())
    }

    /// What the kernel says of all of its threads.
    fn usage(&self) -> Usage {
        let process = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let mut usage = Usage {
            memory_kib: field(&status, "RssAnon:"),
            ..Usage::default()
        };
        let threads = std::fs::read_dir(format!("{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let ran = read("schedstat");
            let ran = ran.split_whitespace().next().and_then(|ns| ns.parse().ok());
            usage.cpu_ns += ran.unwrap_or(0_u64);
            let wakeups = field(&read("status"), "voluntary_ctxt_switches:");
            usage.wakeups += wakeups;
            // The kernel keeps the first fifteen bytes of "pathpulse-worker-N".
            if read("comm").starts_with("pathpulse-worke") {
                usage.worker_wakeups += wakeups;
            }
        }
        usage
    }

    /// Watches it for some windows in which nobody asks it anything, and tells its checks in a second.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn rests(&self, stop: &AtomicBool) -> Result<(Vec<Rest>, f64), String> {
        let (checks_before, begin) = (self.checks()?, Instant::now());
        // What follows from being asked is not rest.
        thread::sleep(STEP);
        let rests = (0..WINDOWS).map(|_| self.rest(stop)).collect();
        let checks = self.checks()? - checks_before;
        Ok((rests, checks as f64 / begin.elapsed().as_secs_f64()))
    }

    /// Watches it for a while.
    fn rest(&self, stop: &AtomicBool) -> Rest {
        let (before, begin) = (self.usage(), Instant::now());
        while begin.elapsed() < WINDOW && !stop.load(Relaxed) {
            thread::sleep(STEP);
        }
        let (after, took) = (self.usage(), begin.elapsed().as_secs_f64());
        Rest {
            cpu_percent: (after.cpu_ns - before.cpu_ns) as f64 / 1e7 / took,
            wakeups_per_s: (after.wakeups - before.wakeups) as f64 / took,
            worker_wakeups_per_s: (after.worker_wakeups - before.worker_wakeups) as f64 / took,
        }
    }

    fn syscalls_per_s(&self) -> Result<f64, String> {
        let begin = Instant::now();
        let output = Command::new("timeout")
            .args(["-s", "INT", &STRACED_S.to_string()])
            .args(["strace", "-f", "-qq", "-c", "-U", "calls,name", "-p"])
            .arg(self.child.id().to_string())
            .output()
            .map_err(|error| format!("strace: {error} (Debian: apt install strace)"))?;
        let summary = String::from_utf8_lossy(&output.stderr);
        let total = summary.lines().rfind(|line| line.ends_with("total"));
        let calls = total.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        calls
            .map(|calls| calls / begin.elapsed().as_secs_f64())
            .ok_or_else(|| "strace (Debian: apt install strace) says nothing".to_owned())
    }

    /// How long it takes to read the configuration again, without and with a stuck read.
    fn reloads(
        &self,
        rig: &Rig,
        silent: &Path,
        stop: &AtomicBool,
    ) -> Result<[Option<Spread>; 2], String> {
        let failed = |error: std::io::Error| format!("the silent device: {error}");
        let idle = self.reload_ms()?;
        rig.set(0, Behaviour::Hang).map_err(failed)?;
        let is_stuck = |path: &Value| is_about(path, silent) && path["stuck_ms"].is_u64();
        if !self.becomes(|all| all.iter().any(is_stuck), stop) {
            return Err("no read at the silent path is stuck".to_owned());
        }
        let stuck = self.reload_ms();
        rig.recover(0).map_err(failed)?;
        Ok([Spread::of(&idle), Spread::of(&stuck?)])
    }

    fn reload_ms(&self) -> Result<Vec<f64>, String> {
        let said = |failure: Failure| failure.message();
        let mut client = Client::connect(&self.socket).map_err(said)?;
        let mut took_ms = Vec::new();
        for _ in 0..RELOADS {
            let begin = Instant::now();
            let done: Value = client.post("/v1/reload", &(), PATIENCE).map_err(said)?;
            took_ms.push(begin.elapsed().as_secs_f64() * 1e3);
            if done["changed"] != 0 || done["unchanged"] != PATHS + 1 {
                return Err(format!("a reload changed something: {done}"));
            }
        }
        Ok(took_ms)
    }

    /// How long it takes to say that the path is down, from when its device falls silent.
    fn detections(&self, rig: &Rig, silent: &Path, stop: &AtomicBool) -> Result<Spread, String> {
        let mut follow = self
            .command(&["events", "--follow", "--format", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("its events: {error}"))?;
        let events = events(&mut follow);
        let mut took_ms = Vec::new();
        let failed = |error: std::io::Error| format!("the silent device: {error}");
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
            // Up, or marginal after so many changes.
            wait(&events, silent, |event| event["to"] != "down")?;
        }
        let _ = follow.kill();
        let _ = follow.wait();
        Spread::of(&took_ms).ok_or_else(|| "it saw nothing".to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.command(&["stop"]).stdout(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind a name of /proc/PID/status.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Events as they come, with when they came.
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

/// Whether the document, of an event or of a path, names this path.
fn is_about(document: &Value, path: &Path) -> bool {
    document["path"].as_str().map(Path::new) == Some(path)
}

/// When the path changed to a state that is wanted.
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
            .map_err(|_| "its events don't say so".to_owned())?;
        if is_about(&event, path) && event["from"] != event["to"] && is_wanted(&event) {
            return Ok(at);
        }
    }
}
