//! Log lines to stderr, which nobody may be reading, or records to journald, which may hang.
//!
//! Whoever logs hands a finished line to a thread that writes it. When that thread is held up by a
//! full pipe, lines are dropped once [`ROOM`] of them wait, and counted; nobody waits. Lines that can't
//! be written, as while journald is started anew, are counted, too.

use std::fmt::{self, Debug};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::field::Field;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::prelude::*;

use crate::human::{is_styled, printable};

use super::journald::{self, Journald, Records};

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
        let writer = thread::Builder::new().name("pathpulse-log".to_owned());
        let registry = tracing_subscriber::registry().with(filter);
        if let Some(mut journald) = Journald::of_stderr() {
            writer.spawn(move || write_all(&inbox, &lost, &mut journald, journald::lost))?;
            registry.with(Records(log.clone())).init();
        } else {
            writer.spawn(move || write_all(&inbox, &lost, &mut io::stderr(), said_lost))?;
            let format = tracing_subscriber::fmt::layer()
                .with_target(false)
                .with_ansi(is_styled(&io::stderr()))
                .fmt_fields(debug_fn(write_field))
                .with_writer(log.clone());
            registry.with(format).init();
        }
        std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
        Ok(log)
    }

    /// Takes a line, or a record, that is finished; waits for nothing.
    pub(crate) fn take(&self, line: Vec<u8>) {
        if !line.is_empty() && self.entries.try_send(Entry::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits for what was logged to be written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.entries.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_LIMIT);
        }
    }
}

/// Fields after the message, but for those that tell the parts of an event: its message has them all.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        // One record is one line, whatever text is in it.
        "message" => writer.write_str(&printable(&format!("{value:?}"))),
        name if name.starts_with("event.") => Ok(()),
        name => write!(writer, " {name}={}", printable(&format!("{value:?}"))),
    }
}

fn said_lost(lines: u64) -> Vec<u8> {
    format!("{lines} log lines were lost: stderr was not read\n").into_bytes()
}

fn write_all(
    inbox: &Receiver<Entry>,
    lost: &AtomicU64,
    to: &mut impl Write,
    say_lost: fn(u64) -> Vec<u8>,
) {
    for entry in inbox {
        match entry {
            Entry::Line(line) => {
                if to.write_all(&line).is_err() {
                    lost.fetch_add(1, Relaxed);
                    continue;
                }
                let before = lost.swap(0, Relaxed);
                if before > 0 && to.write_all(&say_lost(before)).is_err() {
                    lost.fetch_add(before, Relaxed);
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
        self.log.take(std::mem::take(&mut self.line));
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
        write_all(&inbox, &lost, &mut written, said_lost);
        let text = String::from_utf8(written).expect("text");
        assert_eq!(
            text,
            "one\n2 log lines were lost: stderr was not read\ntwo\n"
        );
    }

    /// Takes some of what is written.
    #[derive(Default)]
    struct Broken(usize, Vec<u8>);

    impl Write for Broken {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            if ![3, 6, 7].contains(&self.0) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            self.1.write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_counted_too() {
        let (entries, inbox) = sync_channel(8);
        let lost = Arc::new(AtomicU64::new(0));
        for line in ["1\n", "2\n", "3\n", "4\n", "5\n"] {
            entries.send(Entry::Line(line.into())).expect("room");
        }
        drop(entries);
        let mut broken = Broken::default();
        write_all(&inbox, &lost, &mut broken, said_lost);
        // 1 and 2 are refused, and after 3 the word of that, and 4.
        let text = String::from_utf8(broken.1).expect("text");
        let told = "3\n5\n3 log lines were lost: stderr was not read\n";
        assert_eq!((text.as_str(), lost.load(Relaxed)), (told, 0));
    }
}
