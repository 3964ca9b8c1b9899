//! The harness's end of a contender's process. Nothing here waits longer than it wants to: a process
//! that does not answer in time is killed and left, since it may not be able to end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Answer, Ask, Swept};

/// How long a killed process is waited for.
const END: Duration = Duration::from_millis(200);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It took longer than this.
    Late(Duration),
    /// The contender's own words, or that it died.
    Failed(String),
}

impl Trouble {
    /// For a person, who knows what was asked.
    pub(crate) fn reason(&self, what: &str) -> String {
        match self {
            Trouble::Late(limit) => format!("> {} ms: {what}", limit.as_millis()),
            Trouble::Failed(reason) => reason.clone(),
        }
    }
}

/// A contender in its process.
pub(crate) struct Remote {
    child: Option<Child>,
    stdin: ChildStdin,
    answers: Receiver<Answer>,
}

impl Remote {
    pub(crate) fn start(mut command: Command) -> Result<Remote, Trouble> {
        let failed = |error: std::io::Error| Trouble::Failed(format!("its process: {error}"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let missing = || Trouble::Failed("its process has no pipes".to_owned());
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let answer = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Answer::Failed(format!("its answer: {error}")));
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        Ok(Remote {
            child: Some(child),
            stdin,
            answers,
        })
    }

    fn ask(&mut self, ask: &Ask, limit: Duration) -> Result<Answer, Trouble> {
        let mut text = serde_json::to_string(ask).unwrap_or_default();
        text.push('\n');
        // A process that died is noticed below.
        let _ = self.stdin.write_all(text.as_bytes());
        match self.answers.recv_timeout(limit) {
            Ok(Answer::Failed(reason)) => Err(Trouble::Failed(reason)),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(Trouble::Late(limit)),
            Err(RecvTimeoutError::Disconnected) => Err(Trouble::Failed(self.death())),
        }
    }

    fn death(&mut self) -> String {
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        status.map_or_else(
            || "its process died".to_owned(),
            |status| format!("its process died: {status}"),
        )
    }

    /// How long it took to open it and to check all paths once.
    pub(crate) fn open(&mut self, ask: &Ask, limit: Duration) -> Result<Duration, Trouble> {
        Ok(self.open_weighed(ask, limit)?.0)
    }

    /// The same, and the bytes of memory that it took.
    pub(crate) fn open_weighed(
        &mut self,
        ask: &Ask,
        limit: Duration,
    ) -> Result<(Duration, u64), Trouble> {
        match self.ask(ask, limit)? {
            Answer::Opened { ns, memory_bytes } => Ok((Duration::from_nanos(ns), memory_bytes)),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn sweep(
        &mut self,
        sweeps: u64,
        least: Duration,
        limit: Duration,
    ) -> Result<Swept, Trouble> {
        let least_ms = least.as_millis() as u64;
        match self.ask(&Ask::Sweep { sweeps, least_ms }, limit)? {
            Answer::Swept(swept) => Ok(swept),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn latencies_us(&mut self, limit: Duration) -> Result<Vec<Option<u64>>, Trouble> {
        match self.ask(&Ask::Latencies, limit)? {
            Answer::Latencies(all) => Ok(all),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn lateness_us(&mut self, limit: Duration) -> Result<Vec<u64>, Trouble> {
        match self.ask(&Ask::Lateness, limit)? {
            Answer::Lateness(all) => Ok(all),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn tear_down(&mut self, limit: Duration) -> Result<Duration, Trouble> {
        match self.ask(&Ask::TearDown, limit)? {
            Answer::TornDown { ns } => Ok(Duration::from_nanos(ns)),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> Trouble {
    Trouble::Failed(format!("unexpected answer {answer:?}"))
}

impl Drop for Remote {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = child.kill();
        let end = Instant::now() + END;
        while Instant::now() < end {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // It ends when its devices answer.
        thread::spawn(move || child.wait());
    }
}
