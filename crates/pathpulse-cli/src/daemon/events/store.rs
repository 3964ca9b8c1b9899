//! What survives a restart: the last events, and which legs we took out of their maps, in a small file.
//!
//! The file may lie on a disk that is full, or that hangs; and a process with a read or a write at a disk
//! that hangs can't end. So another process has the file (`state_file.rs`), and nobody waits for that: a
//! start goes on without the past, which is taken in when it comes, and events that find no room on the
//! way are not kept. It ends when its input does. Only who takes a leg out of a map waits until that is
//! noted, and not for long (`actions/notes.rs`).

use std::io::{BufRead, BufReader, Write};
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::store_file::{SYNC, Said, Taken};

/// Events on their way to the file.
const ROOM: usize = 4_096;
/// How long the last events may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Word {
    /// What is to be kept.
    Line(Arc<str>),
    /// Say so when all before this are written.
    Flush(SyncSender<bool>),
    /// Say whether all before this are on the disk.
    Sync(SyncSender<bool>),
}

/// Takes in what the file has: events, and which legs of maps we took out.
type Recall = Box<dyn FnOnce(Vec<Arc<str>>, Vec<Taken>) + Send>;

/// The way to the process that has the file. Without a file it leads nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Keeper(Option<SyncSender<Word>>);

/// The other end of that way, until there is a process.
#[derive(Debug)]
pub(crate) struct Keeping(Option<(PathBuf, Receiver<Word>)>);

impl Keeping {
    /// Starts the process, and has what the file has recalled when it is read.
    ///
    /// # Errors
    /// When there is no process or no thread to be had.
    pub(crate) fn start(
        self,
        recall: impl FnOnce(Vec<Arc<str>>, Vec<Taken>) + Send + 'static,
    ) -> Result<(), String> {
        let Some((file, inbox)) = self.0 else {
            return Ok(());
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg("keep-events").arg(file).env_clear();
        start(command, inbox, Box::new(recall)).map(drop)
    }
}

/// Starts the process by this command; returns its number.
fn start(mut command: Command, inbox: Receiver<Word>, recall: Recall) -> Result<u32, String> {
    let mut child = command
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
    let pid = child.id();
    let (waiting, waiters) = channel();
    crate::daemon::spawn("state", move || pass_on(&inbox, input, &waiting))?;
    crate::daemon::spawn("recall", move || listen(child, output, recall, &waiters))?;
    Ok(pid)
}

impl Keeper {
    /// A way to this file, if one is named, and its other end.
    pub(crate) fn new(file: Option<PathBuf>) -> (Keeper, Keeping) {
        let Some(file) = file else {
            return (Keeper(None), Keeping(None));
        };
        let (words, inbox) = sync_channel(ROOM);
        (Keeper(Some(words)), Keeping(Some((file, inbox))))
    }

    /// Keeps an event, if there is room for it; waits for nothing.
    pub(crate) fn keep(&self, event: &Arc<str>) {
        self.tell(Word::Line(Arc::clone(event)));
    }

    /// Keeps which legs of a map we took out; says whether there was room for it. Waits for nothing.
    pub(crate) fn keep_taken(&self, taken: &Taken) -> bool {
        let keep = |line: String| self.tell(Word::Line(line.into()));
        !self.has_file() || taken.line().is_some_and(keep)
    }

    /// Waits for what was kept to be written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        self.tell(Word::Flush(done));
        let _ = written.recv_timeout(FLUSH_LIMIT);
    }

    /// Has all on the disk that was kept. The answer is whether it is; it comes when it does, or never.
    /// `None`: there was no room to ask.
    pub(crate) fn sync(&self) -> Option<Receiver<bool>> {
        let (done, synced) = sync_channel(1);
        self.tell(Word::Sync(done)).then_some(synced)
    }

    /// Whether there is a file.
    pub(crate) fn has_file(&self) -> bool {
        self.0.is_some()
    }

    fn tell(&self, word: Word) -> bool {
        let words = self.0.as_ref();
        words.is_none_or(|words| words.try_send(word).is_ok())
    }
}

/// Tells the process what to keep. Waits for its pipe, as long as that takes.
fn pass_on(inbox: &Receiver<Word>, mut input: ChildStdin, waiting: &Sender<SyncSender<bool>>) {
    for word in inbox {
        let told = match word {
            Word::Line(line) => writeln!(input, "{line}"),
            Word::Flush(done) => {
                let _ = waiting.send(done);
                // Nothing that is kept is an empty line.
                writeln!(input)
            }
            Word::Sync(done) => {
                let _ = waiting.send(done);
                writeln!(input, "{SYNC}")
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
    recall: Recall,
    waiters: &Receiver<SyncSender<bool>>,
) {
    let (mut past, mut taken) = (Vec::new(), Vec::new());
    let mut recall = Some(recall);
    let answer = |answer: bool| {
        if let Ok(done) = waiters.try_recv() {
            let _ = done.send(answer);
        }
    };
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match Said::parse(&line) {
            Some(Said::Past(event)) => past.push(event.into()),
            Some(Said::Taken(text)) => taken.extend(serde_json::from_str::<Taken>(text)),
            Some(Said::Ready) => {
                if let Some(recall) = recall.take() {
                    recall(mem::take(&mut past), mem::take(&mut taken));
                }
            }
            Some(Said::Written | Said::Synced) => answer(true),
            Some(Said::Unsynced) => answer(false),
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

#[cfg(test)]
pub(crate) mod tests;
