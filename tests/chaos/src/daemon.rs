//! The real daemon, as a process, controlled through its socket.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::limits::Limits;
use crate::message::{Clock, RunMsg};

/// How long it may take to answer on its socket after its start.
const START: Duration = Duration::from_secs(10);
/// How long it may take to stop. Its limit is one second; the rest is for the machine.
const STOP: Duration = Duration::from_secs(5);

/// How to start the daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary.
    pub program: PathBuf,
    /// Its check settings.
    pub limits: Limits,
    /// The backend: a value for `--backend`.
    pub backend: String,
    /// Number of worker threads.
    pub workers: u16,
}

/// The daemon's process, killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

/// The used part of `/v1/status`.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// The backend.
    pub backend: String,
    /// Its paths.
    pub paths: Vec<PathStatus>,
}

/// The status of one path.
#[derive(Debug, Deserialize)]
pub struct PathStatus {
    /// Its name.
    pub path: String,
    /// Its state.
    pub state: String,
    /// How long a read of it has been stuck.
    pub stuck_ms: Option<u64>,
    /// Its check counters.
    pub checks: Checks,
}

/// Counts of verdicts.
#[derive(Debug, Deserialize)]
pub struct Checks {
    /// All checks.
    pub total: u64,
    /// Checks with an unknown result.
    pub unknown: u64,
}

impl Daemon {
    /// Starts it for these paths, with its socket and log in this folder, and waits until it
    /// answers.
    ///
    /// # Errors
    /// It can't be started, or does not answer.
    pub fn start(settings: &Settings, paths: &[PathBuf], folder: &Path) -> io::Result<Daemon> {
        let socket = folder.join("daemon.sock");
        let log = folder.join("daemon.log");
        let configuration = folder.join("daemon.toml");
        std::fs::write(&configuration, settings.limits.as_configuration())?;
        let child = Command::new(&settings.program)
            .args(["run", "--log", "error", "--config"])
            .arg(&configuration)
            .args(["--backend", &settings.backend, "--workers"])
            .arg(settings.workers.to_string())
            .arg("--socket")
            .arg(&socket)
            .args(paths)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| {
                io::Error::other(format!("starting {}: {error}", settings.program.display()))
            })?;
        let daemon = Daemon { child, socket, log };
        let begin = Instant::now();
        while let Err(error) = daemon.status() {
            if begin.elapsed() > START {
                let log = daemon.log();
                return Err(io::Error::other(format!(
                    "the daemon does not answer: {error}; {log}"
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The contents of its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its status.
    ///
    /// # Errors
    /// It does not answer, or the answer is invalid.
    pub fn status(&self) -> io::Result<Status> {
        let mut text = String::new();
        get(&self.socket, "/v1/status")?.read_to_string(&mut text)?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Forwards its events from now on.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn follow(&self, clock: Clock, messages: Sender<RunMsg>) -> io::Result<()> {
        let mut stream = get(&self.socket, "/v1/events?follow=true")?;
        thread::spawn(move || {
            let end = forward_events(&mut stream, clock, &messages).err();
            let why = end.map_or("no more events".to_owned(), |error| error.to_string());
            let _ = messages.send(RunMsg::SourceEnded(why));
        });
        Ok(())
    }

    /// Stops it. Returns the exit status and how long that took.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> io::Result<(ExitStatus, Duration)> {
        let begin = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while begin.elapsed() < STOP {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, begin.elapsed()));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(io::Error::other("the daemon did not stop in time"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Not awaited: with backends other than io_uring, the disks would have to be released
        // first.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

/// Requests a resource, and returns the body of the answer, which ends with the connection.
fn get(socket: &Path, resource: &str) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET {resource} HTTP/1.0\r\nhost: pathpulse\r\n\r\n")?;
    let mut response = BufReader::new(stream);
    let mut line = String::new();
    response.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("{resource}: {}", line.trim())));
    }
    while line.trim() != "" {
        line.clear();
        response.read_line(&mut line)?;
    }
    Ok(response)
}

/// Server-sent events, each with its data on one line.
fn forward_events(
    stream: &mut impl BufRead,
    clock: Clock,
    messages: &Sender<RunMsg>,
) -> io::Result<()> {
    let mut named = false;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let at = clock.now();
        if let Some(data) = line.strip_prefix("data: ") {
            let message = match serde_json::from_str(data) {
                Ok(event) if !named => RunMsg::Event(event, at),
                _ => RunMsg::UnexpectedData(data.trim().to_owned()),
            };
            if messages.send(message).is_err() {
                return Ok(());
            }
        }
        named = line.starts_with("event: ");
        line.clear();
    }
    Ok(())
}
