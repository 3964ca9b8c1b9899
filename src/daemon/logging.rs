//! Log lines to stderr, which nobody may be reading.
//!
//! Whoever logs hands a finished line to a thread that writes it. When that thread is held up by a
//! full pipe, lines are dropped once [`ROOM`] of them wait, and counted; nobody waits.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Lines that wait to be written.
const ROOM: usize = 4_096;
/// How long the last lines may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// What is logged: a level such as `info`, or `target=level,...` as in RUST_LOG.
pub(crate) type Filter = Targets;

enum Entry {
    Line(Vec<u8>),
    /// Say so when all lines before this are written.
    Flush(SyncSender<()>),
}

/// The way to the thread that writes.
#[derive(Clone)]
pub(crate) struct Log {
    entries: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Makes this process log to stderr. Panics are logged too: the default hook would write to
    /// stderr itself, and wait.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(filter: Filter) -> io::Result<Log> {
        let (entries, inbox) = sync_channel(ROOM);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Log {
            entries,
            lost: Arc::clone(&lost),
        };
        thread::Builder::new()
            .name("pathpulse-log".to_owned())
            .spawn(move || write_all(&inbox, &lost, &mut io::stderr()))?;
        let format = tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(log.clone());
        tracing_subscriber::registry()
            .with(filter)
            .with(format)
            .init();
        std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
        Ok(log)
    }

    /// Waits for what was logged to be written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.entries.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_LIMIT);
        }
    }
}

fn write_all(inbox: &Receiver<Entry>, lost: &AtomicU64, to: &mut impl Write) {
    for entry in inbox {
        match entry {
            Entry::Line(line) => {
                let _ = to.write_all(&line);
                let lost = lost.swap(0, Relaxed);
                if lost > 0 {
                    let _ = writeln!(to, "{lost} log lines were lost: stderr was not read");
                }
            }
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            log: self,
            line: Vec::new(),
        }
    }
}

/// Collects one line, and hands it over when it is complete.
pub(crate) struct LineWriter<'a> {
    log: &'a Log,
    line: Vec<u8>,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.log.entries.try_send(Entry::Line(line)).is_err() {
            self.log.lost.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_no_room_are_counted_and_nobody_waits() {
        let (entries, inbox) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Log {
            entries,
            lost: Arc::clone(&lost),
        };
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            let _ = log.make_writer().write_all(line.as_bytes());
        }
        drop(log);
        let mut written = Vec::new();
        write_all(&inbox, &lost, &mut written);
        let text = String::from_utf8(written).expect("text");
        assert_eq!(
            text,
            "one\n2 log lines were lost: stderr was not read\ntwo\n"
        );
    }
}
