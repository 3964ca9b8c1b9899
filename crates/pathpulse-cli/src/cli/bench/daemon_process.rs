//! A daemon for measurements: the real one, in a process of its own, and what it uses while it is
//! idle.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Number and length of the windows in which the idle daemon is measured, and the time under
/// strace.
pub(super) const WINDOWS: usize = 3;
pub(super) const WINDOW: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_millis(500);
const STRACED_S: u64 = 6;
/// Only a bug takes this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What the idle daemon used in a window of time.
pub(super) struct IdleWindow {
    pub(super) cpu_percent: f64,
    pub(super) wakeups_per_s: f64,
    pub(super) worker_wakeups_per_s: f64,
}

/// A running daemon.
pub(super) struct BenchDaemon {
    child: Child,
    program: PathBuf,
    pub(super) socket: PathBuf,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
pub(super) struct Usage {
    cpu_ns: u64,
    wakeups: u64,
    /// Wake-ups of the workers alone.
    worker_wakeups: u64,
    pub(super) memory_kib: u64,
}

impl BenchDaemon {
    /// Starts the daemon, and waits until all paths are up.
    pub(super) fn start(
        program: &Path,
        paths: &[PathBuf],
        interval: &str,
        stop: &AtomicBool,
    ) -> Result<BenchDaemon, String> {
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
        let daemon = BenchDaemon {
            child,
            program: program.to_owned(),
            socket,
            _folder: folder,
        };
        let all_up = |all: &[Value]| {
            all.len() == paths.len() && all.iter().all(|path| path["state"] == "up")
        };
        if daemon.wait_paths(all_up, stop) {
            return Ok(daemon);
        }
        Err(format!(
            "not all paths of the daemon are up within {PATIENCE:?}"
        ))
    }

    /// Waits until its paths are as wanted; `false` if they never are.
    pub(super) fn wait_paths(
        &self,
        is_wanted: impl Fn(&[Value]) -> bool,
        stop: &AtomicBool,
    ) -> bool {
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

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).arg("--socket").arg(&self.socket);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn status(&self) -> Result<Value, String> {
        let output = self.command(&["status", "--format", "json"]).output();
        let output = output.map_err(|error| error.to_string())?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cannot parse the status of the daemon: {error}"))
    }

    /// Number of checks so far.
    fn checks(&self) -> Result<u64, String> {
        let status = self.status()?;
        let all = status["paths"].as_array().into_iter().flatten();
        Ok(all
            .filter_map(|path| path["checks"]["total"].as_u64())
            .sum())
    }

    /// The kernel's figures of all threads.
    pub(super) fn usage(&self) -> Usage {
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

    /// Measures windows without any request, and the checks per second.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub(super) fn idle_windows(&self, stop: &AtomicBool) -> Result<(Vec<IdleWindow>, f64), String> {
        let (checks_before, begin) = (self.checks()?, Instant::now());
        // The work of the last request is not part of a window.
        thread::sleep(STEP);
        let windows = (0..WINDOWS).map(|_| self.idle_window(stop)).collect();
        let checks = self.checks()? - checks_before;
        Ok((windows, checks as f64 / begin.elapsed().as_secs_f64()))
    }

    fn idle_window(&self, stop: &AtomicBool) -> IdleWindow {
        let (before, begin) = (self.usage(), Instant::now());
        while begin.elapsed() < WINDOW && !stop.load(Relaxed) {
            thread::sleep(STEP);
        }
        let (after, took) = (self.usage(), begin.elapsed().as_secs_f64());
        IdleWindow {
            cpu_percent: (after.cpu_ns - before.cpu_ns) as f64 / 1e7 / took,
            wakeups_per_s: (after.wakeups - before.wakeups) as f64 / took,
            worker_wakeups_per_s: (after.worker_wakeups - before.worker_wakeups) as f64 / took,
        }
    }

    pub(super) fn syscalls_per_s(&self) -> Result<f64, String> {
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
            .ok_or_else(|| "strace printed no total; does it support -c -U calls,name?".to_owned())
    }
}

impl Drop for BenchDaemon {
    fn drop(&mut self) {
        let _ = self.command(&["stop"]).stdout(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number after a name in /proc/PID/status.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}
