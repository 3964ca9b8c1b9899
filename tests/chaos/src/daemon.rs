//! The daemon: the real one, as a process, spoken to over its socket.

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

use crate::run::{Clock, News};
use crate::terms::Terms;

/// How long it may take to answer on its socket after its start.
const START: Duration = Duration::from_secs(10);
/// It promises a second; the rest is the machine's.
const STOP: Duration = Duration::from_secs(5);

/// How it is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary.
    pub program: PathBuf,
    /// When it checks and what it makes of it.
    pub terms: Terms,
    /// What carries the checks: a name that `--backend` takes.
    pub backend: String,
    /// Threads that check.
    pub workers: u16,
}

/// The daemon's process. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

/// What of `/v1/status` is needed here.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// What carries its checks.
    pub backend: String,
    /// Its paths.
    pub paths: Vec<PathStatus>,
}

/// One path of it.
#[derive(Debug, Deserialize)]
pub struct PathStatus {
    /// Its name.
    pub path: String,
    /// Its state.
    pub state: String,
    /// For how long a read of it is stuck.
    pub stuck_ms: Option<u64>,
    /// Its checks.
    pub checks: Checks,
}

/// Verdicts.
#[derive(Debug, Deserialize)]
pub struct Checks {
    /// All.
    pub total: u64,
    /// Those that say nothing.
    pub unknown: u64,
}

impl Daemon {
    /// Starts it on these paths, with its socket and log in this folder, and waits until it answers.
    ///
    /// # Errors
    /// It can't be started, or does not answer.
    pub fn start(settings: &Settings, paths: &[PathBuf], folder: &Path) -> io::Result<Daemon> {
        let socket = folder.join("daemon.sock");
        let log = folder.join("daemon.log");
        let configuration = folder.join("daemon.toml");
        std::fs::write(&configuration, settings.terms.as_configuration())?;
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
                return Err(io::Error::other(format!("no daemon: {error}; {log}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How all is, says it.
    ///
    /// # Errors
    /// It does not answer, or strangely.
    pub fn status(&self) -> io::Result<Status> {
        let mut text = String::new();
        ask(&self.socket, "/v1/status")?.read_to_string(&mut text)?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Hands on what it says from now on, as it comes.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn follow(&self, clock: Clock, news: Sender<News>) -> io::Result<()> {
        let mut stream = ask(&self.socket, "/v1/events?follow=true")?;
        thread::spawn(move || {
            let end = hand_on(&mut stream, clock, &news).err();
            let why = end.map_or("no more events".to_owned(), |error| error.to_string());
            let _ = news.send(News::Silent(why));
        });
        Ok(())
    }

    /// Stops it, and says how that ended and how long it took.
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
        Err(io::Error::other("the daemon does not stop"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Not waited for: with other backends than io_uring the disks would have to be released first.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

/// Asks for a resource, and returns the answer's body, which ends with the connection.
fn ask(socket: &Path, resource: &str) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET {resource} HTTP/1.0\r\nhost: pathpulse\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("{resource}: {}", line.trim())));
    }
    while line.trim() != "" {
        line.clear();
        answer.read_line(&mut line)?;
    }
    Ok(answer)
}

/// Server-sent events, each with its data on one line.
fn hand_on(stream: &mut impl BufRead, clock: Clock, news: &Sender<News>) -> io::Result<()> {
    let mut named = false;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let at = clock.now();
        if let Some(data) = line.strip_prefix("data: ") {
            let told = match serde_json::from_str(data) {
                Ok(said) if !named => News::Said(said, at),
                _ => News::Lost(data.trim().to_owned()),
            };
            if news.send(told).is_err() {
                return Ok(());
            }
        }
        named = line.starts_with("event: ");
        line.clear();
    }
    Ok(())
}
