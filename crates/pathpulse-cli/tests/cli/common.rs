//! Runs the binary, and makes disks for it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Release, Rig, Spec, report_skip};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a test waits for something that must happen. Only a bug takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn pathpulse() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathpulse"));
    command
        .env_remove("PATHPULSE_SOCKET")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// The backend of this test run. `PATHPULSE_BACKEND` forces one, here and in the binary.
pub(crate) fn backend() -> String {
    let forced = std::env::var("PATHPULSE_BACKEND").ok();
    let forced = forced.filter(|name| name != "auto");
    forced.unwrap_or_else(|| "io_uring".to_owned())
}

/// Whether the kernel lets a process end, killed or not, while a silent device has its reads. The
/// table "What the kernel forces" in kernel-compat's `backend.rs` shows this for each backend.
///
/// Where it does not, all threads of the process stop, and the process ends when the device has
/// answered: [`Daemon::end_by`] checks that. Commands that read disks end nevertheless, because
/// they read in a subprocess.
pub(crate) fn stuck_reads_let_go() -> bool {
    backend() == "io_uring"
}

/// Simulated disks. The binary itself serves them, so nothing else must be built or installed.
pub(crate) fn rig(spec: &Spec) -> Rig {
    let mut command = pathpulse();
    command.arg("rig-server");
    Rig::start_with(command, spec).expect("fault disks")
}

pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    output(pathpulse().args(args))
}

/// Runs a command to its end.
fn output(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("starts");
    let pid = Pid::from_child(&child);
    let (sender, ended) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    ended.recv_timeout(PATIENCE).map_or_else(
        |_| {
            let _ = kill_process(pid, Signal::KILL);
            panic!("{command:?} does not end")
        },
        |output| output.expect("runs"),
    )
}

/// The output of the command on a terminal of 80 columns, with these variables set; `None` if the
/// program `script` is missing.
pub(crate) fn on_terminal(args: &[&str], set: &[(&str, &str)]) -> Option<String> {
    let words = [env!("CARGO_BIN_EXE_pathpulse")].into_iter();
    let words = words.chain(args.iter().copied());
    let quoted: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let mut script = Command::new("script");
    script
        .args(["-qec", &quoted.join(" "), "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG")
        .envs(set.iter().copied())
        .stdin(Stdio::null());
    match script.output() {
        Ok(output) => Some(stdout(&output)),
        Err(error) => {
            report_skip(&format!("script: {error}"));
            None
        }
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Fails unless stderr is one line with all of these parts.
pub(crate) fn assert_error_line(output: &Output, says: &[&str]) {
    let text = stderr(output);
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Waits for the end of a process.
fn wait_end(child: &mut Child) -> ExitStatus {
    wait_end_while(child, || {})
}

/// Makes the disks answer until the process has ended: reads can still be on their way to a disk.
fn wait_end_released(child: &mut Child, disks: &Rig, silent: &[usize]) -> ExitStatus {
    wait_end_while(child, || {
        for disk in silent {
            disks.release(*disk, Release::Data).expect("released");
        }
    })
}

fn wait_end_while(child: &mut Child, mut meanwhile: impl FnMut()) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status;
        }
        assert!(begin.elapsed() < PATIENCE, "{} does not end", child.id());
        meanwhile();
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a process has ended, or all its threads have stopped and the kernel holds it.
fn wait_stopped(child: &mut Child) {
    let begin = Instant::now();
    while child.try_wait().expect("our child").is_none() {
        let threads = thread_states(child.id());
        // A live process has a thread that waits for signals, so not all its threads wait for a
        // device.
        if threads.chars().all(|state| "DZX".contains(state)) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "threads are {threads}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Fails unless the kernel holds a process whose threads have stopped.
fn assert_kept(child: &mut Child) {
    let ended = child.try_wait().expect("our child");
    assert_eq!(ended, None, "the kernel can end it after all");
}

/// The state of each thread as in proc(5): `D` waits for a device, `Z` and `X` are dead.
fn thread_states(pid: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| std::fs::read(thread.path().join("stat")).ok());
    let state = |stat: Vec<u8>| {
        let text = String::from_utf8_lossy(&stat).into_owned();
        text.rsplit_once(") ")?.1.chars().next()
    };
    stats.filter_map(state).collect()
}

/// A running daemon; it is killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) socket: PathBuf,
    log: Receiver<String>,
    /// The directory of its socket.
    folder: Option<tempfile::TempDir>,
}

impl Daemon {
    /// Starts a daemon on these paths, and waits until all are opened. Unless `more` has an
    /// interval, the daemon checks often.
    pub(crate) fn start<P: AsRef<Path>>(paths: &[P], more: &[&str]) -> Daemon {
        let daemon = Daemon::spawn(paths, more);
        daemon.wait_log("paths are watched");
        daemon
    }

    /// Starts a daemon without waiting.
    pub(crate) fn spawn<P: AsRef<Path>>(paths: &[P], more: &[&str]) -> Daemon {
        Daemon::spawn_by(pathpulse(), paths, more)
    }

    /// Starts a daemon with this command, whose last argument is the binary.
    pub(crate) fn spawn_by<P: AsRef<Path>>(command: Command, paths: &[P], more: &[&str]) -> Daemon {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("p.sock");
        let mut daemon = Daemon::spawn_at(command, socket, paths, more);
        daemon.folder = Some(folder);
        daemon
    }

    /// Starts a daemon with this command and this socket.
    pub(crate) fn spawn_at<P: AsRef<Path>>(
        mut command: Command,
        socket: PathBuf,
        paths: &[P],
        more: &[&str],
    ) -> Daemon {
        let often = ["--interval", "100ms", "--timeout", "300ms"];
        let pace = if more.contains(&"--interval") {
            &[][..]
        } else {
            &often[..]
        };
        let mut child = command
            .arg("run")
            .args(pace)
            .args(more)
            .arg("--socket")
            .arg(&socket)
            .args(paths.iter().map(AsRef::as_ref))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let log = lines(child.stderr.take().expect("piped"));
        Daemon {
            child,
            socket,
            log,
            folder: None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client command for this daemon.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = pathpulse();
        command.args(args).arg("--socket").arg(&self.socket);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(&mut self.command(args))
    }

    /// The document of `status --format json`.
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--format", "json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("a document")
    }

    /// Waits until a path is watched and has this state.
    pub(crate) fn wait_state(&self, path: &Path, state: &str) -> Value {
        let begin = Instant::now();
        let name = path.to_str().expect("text");
        loop {
            let status = self.status();
            let paths = status["paths"].as_array().expect("a list");
            let found = paths.iter().find(|path| path["path"] == name);
            if let Some(found) = found.filter(|found| found["state"] == state) {
                return found.clone();
            }
            assert!(begin.elapsed() < PATIENCE, "{state} expected: {found:?}");
        }
    }

    /// Waits for the next line of the log with this part.
    pub(crate) fn wait_log(&self, part: &str) -> String {
        next_with(&self.log, part)
    }

    /// The rest of the log, until the daemon ends.
    pub(crate) fn log_until_end(&self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        rest
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// Whether its process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for its end, and returns how long that took.
    pub(crate) fn wait_end(&mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        (wait_end(&mut self.child), begin.elapsed())
    }

    /// Sends a signal while disks hold reads of the daemon, and returns how long it took to end, or
    /// if the kernel holds it, until all its threads stopped. Then the disks answer.
    pub(crate) fn end_by(
        &mut self,
        signal: Signal,
        disks: &Rig,
        silent: &[usize],
    ) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        self.signal(signal);
        if stuck_reads_let_go() {
            return (wait_end(&mut self.child), begin.elapsed());
        }
        wait_stopped(&mut self.child);
        let took = begin.elapsed();
        // Early in its start, no disk may hold a read of it yet.
        let held = |disk: &usize| disks.held(*disk).expect("known") > 0;
        if silent.iter().any(held) {
            assert_kept(&mut self.child);
        }
        (wait_end_released(&mut self.child, disks, silent), took)
    }

    /// Waits for the end of a daemon that is stopping while disks hold its reads.
    pub(crate) fn end_released(&mut self, disks: &Rig, silent: &[usize]) -> ExitStatus {
        if stuck_reads_let_go() {
            return wait_end(&mut self.child);
        }
        wait_stopped(&mut self.child);
        assert_kept(&mut self.child);
        wait_end_released(&mut self.child, disks, silent)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // After a failed test, disks may hold reads that keep the daemon from ending.
        let begin = Instant::now();
        while stuck_reads_let_go() && matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let known = thread::panicking();
                assert!(known, "{} was killed, and does not end", self.pid());
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The lines of a pipe.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The next line with this part.
pub(crate) fn next_with(lines: &Receiver<String>, part: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(part) => return line,
            Ok(line) => seen.push(line),
            Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                panic!("no line with {part:?}: {error}; there were {seen:#?}")
            }
        }
    }
}

/// The directory of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file on a file system that supports O_DIRECT; it is deleted when dropped.
pub(crate) fn plain_file(bytes: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    std::fs::write(file.path(), vec![0xA5_u8; bytes]).expect("written");
    // Dirty pages make the kernel answer EAGAIN.
    file.as_file().sync_all().expect("synced");
    file
}

/// A copy of the binary in a directory that every user can enter.
pub(crate) fn public_binary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let binary = folder.path().join("pathpulse");
    // Another process copies it: a file that this process opens for writing may still be open in
    // the child of another test, and then it cannot be run.
    let script = r#"cp "$0" "$1/pathpulse" && chmod 755 "$1" "$1/pathpulse""#;
    let copied = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_pathpulse")])
        .arg(folder.path())
        .status();
    assert!(copied.expect("runs").success());
    (folder, binary)
}
