//! The harness's side of a contender's process. All waits have a limit: a process that does not
//! reply in time is killed and left behind, because it may be unable to end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{ReplyMsg, RequestMsg, Swept};

/// How long to wait for a killed process.
const END: Duration = Duration::from_millis(200);

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContenderError {
    /// It took longer than this.
    TimedOut(Duration),
    /// The contender's own message, or that its process died.
    Failed(String),
}

impl ContenderError {
    /// A message for the user. `what` describes the failed step.
    pub(crate) fn reason(&self, what: &str) -> String {
        match self {
            ContenderError::TimedOut(limit) => format!("> {} ms: {what}", limit.as_millis()),
            ContenderError::Failed(reason) => reason.clone(),
        }
    }
}

/// The process of a contender.
pub(crate) struct ContenderProcess {
    child: Option<Child>,
    stdin: ChildStdin,
    replies: Receiver<ReplyMsg>,
}

impl ContenderProcess {
    pub(crate) fn start(mut command: Command) -> Result<ContenderProcess, ContenderError> {
        let failed = |error: std::io::Error| {
            ContenderError::Failed(format!("cannot start the process: {error}"))
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let missing = || ContenderError::Failed("the process has no pipes".to_owned());
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let reply = serde_json::from_str(&line)
                    .unwrap_or_else(|error| ReplyMsg::Failed(format!("invalid reply: {error}")));
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        Ok(ContenderProcess {
            child: Some(child),
            stdin,
            replies,
        })
    }

    fn call(&mut self, request: &RequestMsg, limit: Duration) -> Result<ReplyMsg, ContenderError> {
        let mut text = serde_json::to_string(request).unwrap_or_default();
        text.push('\n');
        // A dead process is detected below.
        let _ = self.stdin.write_all(text.as_bytes());
        match self.replies.recv_timeout(limit) {
            Ok(ReplyMsg::Failed(reason)) => Err(ContenderError::Failed(reason)),
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Timeout) => Err(ContenderError::TimedOut(limit)),
            Err(RecvTimeoutError::Disconnected) => Err(ContenderError::Failed(self.death())),
        }
    }

    fn death(&mut self) -> String {
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        status.map_or_else(
            || "the process died".to_owned(),
            |status| format!("the process died: {status}"),
        )
    }

    /// Opens the contender and checks all paths once. Returns how long that took.
    pub(crate) fn open(
        &mut self,
        request: &RequestMsg,
        limit: Duration,
    ) -> Result<Duration, ContenderError> {
        Ok(self.open_measuring_memory(request, limit)?.0)
    }

    /// The same. Also returns the bytes of memory that it took.
    pub(crate) fn open_measuring_memory(
        &mut self,
        request: &RequestMsg,
        limit: Duration,
    ) -> Result<(Duration, u64), ContenderError> {
        match self.call(request, limit)? {
            ReplyMsg::Opened { ns, memory_bytes } => Ok((Duration::from_nanos(ns), memory_bytes)),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn sweep(
        &mut self,
        sweeps: u64,
        min_time: Duration,
        limit: Duration,
    ) -> Result<Swept, ContenderError> {
        let min_ms = min_time.as_millis() as u64;
        match self.call(&RequestMsg::Sweep { sweeps, min_ms }, limit)? {
            ReplyMsg::Swept(swept) => Ok(swept),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn latencies_us(
        &mut self,
        limit: Duration,
    ) -> Result<Vec<Option<u64>>, ContenderError> {
        match self.call(&RequestMsg::Latencies, limit)? {
            ReplyMsg::Latencies(all) => Ok(all),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn lateness_us(&mut self, limit: Duration) -> Result<Vec<u64>, ContenderError> {
        match self.call(&RequestMsg::Lateness, limit)? {
            ReplyMsg::Lateness(all) => Ok(all),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn tear_down(&mut self, limit: Duration) -> Result<Duration, ContenderError> {
        match self.call(&RequestMsg::TearDown, limit)? {
            ReplyMsg::TornDown { ns } => Ok(Duration::from_nanos(ns)),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &ReplyMsg) -> ContenderError {
    ContenderError::Failed(format!("unexpected reply {reply:?}"))
}

impl Drop for ContenderProcess {
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
        // It ends when its devices reply.
        thread::spawn(move || child.wait());
    }
}
