//! The client side of the control protocol: starts a child process, sends it requests, and passes
//! each reply to its caller. Many threads may have pending requests.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wire::{self, AnswerMsg, CommandMsg, ReplyMsg, RequestMsg, context};

/// How long a reply may take. Each is due at once, or within the caller's own limit. A rig of
/// hundreds of devices may take some seconds to start. A reply that takes longer never arrives.
const REPLY_LIMIT: Duration = Duration::from_secs(120);

type Pending = HashMap<u64, mpsc::Sender<Result<AnswerMsg, io::Error>>>;

/// A child process and its pending requests.
#[derive(Debug)]
pub(crate) struct Client {
    requests: Mutex<Option<ChildStdin>>,
    /// `None` once the child's output has ended, because no reply can arrive any more.
    pending: Arc<Mutex<Option<Pending>>>,
    next_id: AtomicU64,
    pid: u32,
    reaped: Mutex<mpsc::Receiver<()>>,
}

impl Client {
    /// Starts `process` with its stdin and stdout connected to this client. `on_end` runs after it
    /// has ended.
    ///
    /// The thread that starts the child also reads its output, and so lives as long as the child.
    /// `PR_SET_PDEATHSIG` watches the parent *thread*; with this thread it signals the death of the
    /// whole parent process.
    pub(crate) fn start(
        mut process: Process,
        on_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        process.stdin(Stdio::piped()).stdout(Stdio::piped());
        let pending = Arc::new(Mutex::new(Some(Pending::new())));
        let for_reader = Arc::clone(&pending);
        let (started, child) = mpsc::channel();
        let (done, reaped) = mpsc::channel();
        thread::Builder::new()
            .name("faultdisk-client".into())
            .spawn(move || {
                let (mut child, output) = match start_child(&mut process) {
                    Ok((child, input, output)) => {
                        if started.send(Ok((child.id(), input))).is_err() {
                            return;
                        }
                        (child, output)
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                read_replies(output, &for_reader);
                let _ = child.wait();
                let _ = done.send(());
                on_end();
            })?;
        let (pid, input) = child.recv().map_err(io::Error::other)??;
        Ok(Self {
            requests: Mutex::new(Some(input)),
            pending,
            next_id: AtomicU64::new(1),
            pid,
            reaped: Mutex::new(reaped),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn call(&self, command: CommandMsg) -> io::Result<AnswerMsg> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        lock(&self.pending)
            .as_mut()
            .ok_or_else(ended_error)?
            .insert(id, sender);
        {
            let mut requests = lock(&self.requests);
            let input = requests.as_mut().ok_or_else(ended_error)?;
            wire::send(input, &RequestMsg { id, command }).map_err(|_| ended_error())?;
        }
        match receiver.recv_timeout(REPLY_LIMIT) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(ended_error()),
            Err(RecvTimeoutError::Timeout) => {
                let message = format!("the rig's process has not answered for {REPLY_LIMIT:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    /// Closes the child's input, which asks it to end.
    pub(crate) fn close(&self) {
        lock(&self.requests).take();
    }

    /// Kills the child. Its pid is not reused before it is reaped, so this can't kill another
    /// process.
    pub(crate) fn kill(&self) {
        let alive = lock(&self.pending).is_some();
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| alive) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Waits until the child has ended and is reaped. Returns `false` if that took longer than
    /// `timeout`.
    pub(crate) fn wait_end(&self, timeout: Duration) -> bool {
        !matches!(
            lock(&self.reaped).recv_timeout(timeout),
            Err(RecvTimeoutError::Timeout)
        )
    }
}

fn start_child(process: &mut Process) -> io::Result<(Child, ChildStdin, ChildStdout)> {
    let mut child = process
        .spawn()
        .map_err(|e| context(process.get_program().display(), e))?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (input, output) = pipes.ok_or_else(|| io::Error::other("the child's pipes are missing"))?;
    Ok((child, input, output))
}

/// Passes on replies until the child's output ends. Then all pending requests fail.
fn read_replies(output: ChildStdout, pending: &Mutex<Option<Pending>>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let Ok(reply) = serde_json::from_str::<ReplyMsg>(&line) else {
            break;
        };
        let sender = lock(pending).as_mut().and_then(|map| map.remove(&reply.id));
        if let Some(sender) = sender {
            let _ = sender.send(reply.result.map_err(io::Error::from));
        }
    }
    lock(pending).take();
}

fn ended_error() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the rig's process has ended")
}

/// Locks even if another thread panicked while it held the lock, because the rig must still be
/// cleaned up.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
