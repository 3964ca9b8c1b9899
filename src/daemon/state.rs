//! What survives a restart: the last events, in a small file.
//!
//! The file may lie on a disk that is full, or that hangs; and a process with a read or a write at a disk
//! that hangs can't end. So another process has the file (`state_file.rs`), and nobody waits for that: a
//! start goes on without the past, which is taken in when it comes, and events that find no room on the
//! way are not kept. It ends when its input does.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::history::History;
use super::state_file::Said;

/// Events on their way to the file.
const ROOM: usize = 4_096;
/// How long the last events may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Word {
    Event(Arc<str>),
    /// Say so when all before this are written.
    Flush(SyncSender<()>),
}

/// The way to the process that has the file. Without a file it leads nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Keeper(Option<SyncSender<Word>>);

impl Keeper {
    /// Starts the process, and has the history recall what the file has.
    ///
    /// # Errors
    /// When there is no process or no thread to be had.
    pub(crate) fn start(file: Option<PathBuf>, history: &Arc<History>) -> Result<Keeper, String> {
        let Some(file) = file else {
            return Ok(Keeper(None));
        };
        let mut child = Command::new("/proc/self/exe")
            .arg("keep-events")
            .arg(file)
            .env_clear()
            // What a terminal or a service manager sends to us is for us.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("starting a process to keep events: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process to keep events has no pipes".to_owned());
        };
        let (words, inbox) = sync_channel(ROOM);
        let (waiting, waiters) = channel();
        let history = Arc::clone(history);
        super::spawn("state", move || pass_on(&inbox, input, &waiting))?;
        super::spawn("recall", move || listen(child, output, &history, &waiters))?;
        Ok(Keeper(Some(words)))
    }

    /// Keeps an event, if there is room for it; waits for nothing.
    pub(crate) fn keep(&self, event: &Arc<str>) {
        self.tell(Word::Event(Arc::clone(event)));
    }

    /// Waits for what was kept to be written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        self.tell(Word::Flush(done));
        let _ = written.recv_timeout(FLUSH_LIMIT);
    }

    fn tell(&self, word: Word) {
        if let Some(words) = &self.0 {
            let _ = words.try_send(word);
        }
    }
}

/// Tells the process what to keep. Waits for its pipe, as long as that takes.
fn pass_on(inbox: &Receiver<Word>, mut input: ChildStdin, waiting: &Sender<SyncSender<()>>) {
    for word in inbox {
        let told = match word {
            Word::Event(event) => writeln!(input, "{event}"),
            Word::Flush(done) => {
                let _ = waiting.send(done);
                // No event is an empty line.
                writeln!(input)
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// Hears what the process says: the past, that all is written, and what is wrong.
fn listen(
    mut child: Child,
    output: ChildStdout,
    history: &History,
    waiters: &Receiver<SyncSender<()>>,
) {
    let mut past = Vec::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match Said::parse(&line) {
            Some(Said::Past(event)) => past.push(event.into()),
            Some(Said::Ready) => history.recall(std::mem::take(&mut past)),
            Some(Said::Written) => {
                if let Ok(done) = waiters.try_recv() {
                    let _ = done.send(());
                }
            }
            Some(Said::Wrong(what)) => tracing::warn!("{what}"),
            Some(Said::Mended(what)) => tracing::info!("{what}"),
            None => {}
        }
    }
    match child.wait() {
        Ok(status) => tracing::warn!("events are no longer kept: their process ended, {status}"),
        Err(error) => tracing::warn!("events are no longer kept: {error}"),
    }
}
