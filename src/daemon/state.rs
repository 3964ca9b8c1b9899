//! What survives a restart: the last events, and which legs we took out of their maps, in a small file.
//!
//! The file may lie on a disk that is full, or that hangs; and a process with a read or a write at a disk
//! that hangs can't end. So another process has the file (`state_file.rs`), and nobody waits for that: a
//! start goes on without the past, which is taken in when it comes, and events that find no room on the
//! way are not kept. It ends when its input does.

use std::io::{BufRead, BufReader, Write};
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::actions::Actions;
use super::history::History;
use super::state_file::{Said, Taken};

/// Events on their way to the file.
const ROOM: usize = 4_096;
/// How long the last events may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Word {
    /// What is to be kept.
    Line(Arc<str>),
    /// Say so when all before this are written.
    Flush(SyncSender<()>),
}

/// The way to the process that has the file. Without a file it leads nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Keeper(Option<SyncSender<Word>>);

/// The other end of that way, until there is a process.
#[derive(Debug)]
pub(crate) struct Keeping(Option<(PathBuf, Receiver<Word>)>);

impl Keeping {
    /// Starts the process, and has the history and the actions recall what the file has.
    ///
    /// # Errors
    /// When there is no process or no thread to be had.
    pub(crate) fn start(self, history: &Arc<History>, actions: &Actions) -> Result<(), String> {
        let Some((file, inbox)) = self.0 else {
            return Ok(());
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
        let (waiting, waiters) = channel();
        let (history, actions) = (Arc::clone(history), actions.clone());
        super::spawn("state", move || pass_on(&inbox, input, &waiting))?;
        super::spawn("recall", move || {
            listen(child, output, &history, &actions, &waiters);
        })
    }
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
        self.tell(Word::Line(taken.line().into()))
    }

    /// Waits for what was kept to be written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        self.tell(Word::Flush(done));
        let _ = written.recv_timeout(FLUSH_LIMIT);
    }

    fn tell(&self, word: Word) -> bool {
        let words = self.0.as_ref();
        words.is_none_or(|words| words.try_send(word).is_ok())
    }
}

/// Tells the process what to keep. Waits for its pipe, as long as that takes.
fn pass_on(inbox: &Receiver<Word>, mut input: ChildStdin, waiting: &Sender<SyncSender<()>>) {
    for word in inbox {
        let told = match word {
            Word::Line(line) => writeln!(input, "{line}"),
            Word::Flush(done) => {
                let _ = waiting.send(done);
                // Nothing that is kept is an empty line.
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
    actions: &Actions,
    waiters: &Receiver<SyncSender<()>>,
) {
    let (mut past, mut taken) = (Vec::new(), Vec::new());
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match Said::parse(&line) {
            Some(Said::Past(event)) => past.push(event.into()),
            Some(Said::Taken(text)) => taken.extend(serde_json::from_str::<Taken>(text)),
            Some(Said::Ready) => {
                history.recall(mem::take(&mut past));
                actions.recall(mem::take(&mut taken));
            }
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
