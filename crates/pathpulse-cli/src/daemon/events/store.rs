//! What survives a restart: the last events, and which paths we took out of their maps.
//!
//! Both are in a small file. The file may be on a disk that is full or that hangs, and a process
//! with a read or a write at a disk that hangs can't end. So another process owns the file
//! (`store_file.rs`), and nothing waits for it: the daemon starts without the past and restores it
//! when it comes, and events that find no room in the queue are not stored. The process ends when
//! its input ends. Only the thread that takes a path out of a map waits for a short time until that
//! is noted (`actions/store_notes.rs`).

use std::io::{BufRead, BufReader, Write};
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::store_lines::{FailedPaths, SYNC, StoreReply};
use crate::daemon::process::spawn;

/// Capacity of the queue to the process.
const QUEUE_LEN: usize = 4_096;
/// How long the last events may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(50);

/// Messages to the thread that writes to the process.
#[derive(Debug)]
enum StoreMsg {
    /// Store this line.
    Line(Arc<str>),
    /// Reply when all lines before this one are written.
    Flush(SyncSender<bool>),
    /// Reply whether all lines before this one are on the disk.
    Sync(SyncSender<bool>),
}

/// Receives what the file contains: events, and the paths that we took out of maps.
type OnRestored = Box<dyn FnOnce(Vec<Arc<str>>, Vec<FailedPaths>) + Send>;

/// A handle of the process that owns the file. Without a file it does nothing.
#[derive(Clone, Debug)]
pub(crate) struct EventStore(Option<SyncSender<StoreMsg>>);

/// The file and the queue of a process that is not started yet.
#[derive(Debug)]
pub(crate) struct EventStoreInbox(Option<(PathBuf, Receiver<StoreMsg>)>);

impl EventStoreInbox {
    /// Starts the process; calls `on_restored` when the file has been read.
    ///
    /// # Errors
    /// Why there is no process or no thread.
    pub(crate) fn start(
        self,
        on_restored: impl FnOnce(Vec<Arc<str>>, Vec<FailedPaths>) + Send + 'static,
    ) -> Result<(), String> {
        let Some((file, inbox)) = self.0 else {
            return Ok(());
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg("keep-events").arg(file).env_clear();
        start(command, inbox, Box::new(on_restored)).map(drop)
    }
}

/// Starts the process by this command; returns its number.
fn start(
    mut command: Command,
    inbox: Receiver<StoreMsg>,
    on_restored: OnRestored,
) -> Result<u32, String> {
    let mut child = command
        // Signals of a terminal or a service manager are for the daemon only.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("starting a process to keep events: {error}"))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("a process to keep events has no pipes".to_owned());
    };
    let pid = child.id();
    let (asked, to_answer) = channel();
    spawn("state", move || forward(&inbox, input, &asked))?;
    spawn("restore", move || {
        read_replies(child, output, on_restored, &to_answer);
    })?;
    Ok(pid)
}

impl EventStore {
    /// A store in this file, and what its process needs to start.
    pub(crate) fn new(file: Option<PathBuf>) -> (EventStore, EventStoreInbox) {
        let Some(file) = file else {
            return (EventStore(None), EventStoreInbox(None));
        };
        let (messages, inbox) = sync_channel(QUEUE_LEN);
        let inbox = EventStoreInbox(Some((file, inbox)));
        (EventStore(Some(messages)), inbox)
    }

    /// Stores an event if the queue has room, without waiting.
    pub(crate) fn keep(&self, event: &Arc<str>) {
        self.send(StoreMsg::Line(Arc::clone(event)));
    }

    /// Stores which paths of a map we took out, without waiting. Returns whether there was room.
    pub(crate) fn keep_failed_paths(&self, failed: &FailedPaths) -> bool {
        let keep = |line: String| self.send(StoreMsg::Line(line.into()));
        !self.has_file() || failed.line().is_some_and(keep)
    }

    /// Waits a short time until all that was stored is written.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        self.send(StoreMsg::Flush(done));
        let _ = written.recv_timeout(FLUSH_LIMIT);
    }

    /// Asks for all that was stored to reach the disk. The receiver gets whether it did, possibly
    /// never. `None` if the queue has no room.
    pub(crate) fn sync(&self) -> Option<Receiver<bool>> {
        let (done, synced) = sync_channel(1);
        self.send(StoreMsg::Sync(done)).then_some(synced)
    }

    /// Whether there is a file.
    pub(crate) fn has_file(&self) -> bool {
        self.0.is_some()
    }

    fn send(&self, message: StoreMsg) -> bool {
        let messages = self.0.as_ref();
        messages.is_none_or(|messages| messages.try_send(message).is_ok())
    }
}

/// Writes messages to the process. Waits for its pipe as long as that takes.
fn forward(inbox: &Receiver<StoreMsg>, mut input: ChildStdin, asked: &Sender<SyncSender<bool>>) {
    for message in inbox {
        let written = match message {
            StoreMsg::Line(line) => writeln!(input, "{line}"),
            StoreMsg::Flush(done) => {
                let _ = asked.send(done);
                // An empty line is never stored: it asks for a reply.
                writeln!(input)
            }
            StoreMsg::Sync(done) => {
                let _ = asked.send(done);
                writeln!(input, "{SYNC}")
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// Reads what the process says: the content of the file, replies, and problems with the file.
fn read_replies(
    mut child: Child,
    output: ChildStdout,
    on_restored: OnRestored,
    to_answer: &Receiver<SyncSender<bool>>,
) {
    let (mut past, mut failed_paths) = (Vec::new(), Vec::new());
    let mut on_restored = Some(on_restored);
    let answer = |answer: bool| {
        if let Ok(done) = to_answer.try_recv() {
            let _ = done.send(answer);
        }
    };
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match StoreReply::parse(&line) {
            Some(StoreReply::Past(event)) => past.push(event.into()),
            Some(StoreReply::FailedPaths(text)) => {
                failed_paths.extend(serde_json::from_str::<FailedPaths>(text));
            }
            Some(StoreReply::Ready) => {
                if let Some(on_restored) = on_restored.take() {
                    on_restored(mem::take(&mut past), mem::take(&mut failed_paths));
                }
            }
            Some(StoreReply::Written | StoreReply::Synced) => answer(true),
            Some(StoreReply::Unsynced) => answer(false),
            Some(StoreReply::Wrong(what)) => tracing::warn!("{what}"),
            Some(StoreReply::Mended(what)) => tracing::info!("{what}"),
            None => {}
        }
    }
    match child.wait() {
        Ok(status) => tracing::warn!("events are no longer kept: their process ended, {status}"),
        Err(error) => tracing::warn!("events are no longer kept: {error}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
