//! Log lines to stderr, whose reader may be slow, or records to journald, which may hang.
//!
//! A logging thread passes a finished line to the log thread, which writes it. If the log thread is
//! blocked by a full pipe, up to [`QUEUE_LEN`] lines wait; more are dropped and counted, and no
//! thread waits. Lines that can't be written, as while journald restarts, are counted, too.

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

use super::journald::{self, Journald, JournaldLayer};

/// Capacity of the queue to the log thread.
const QUEUE_LEN: usize = 4_096;
/// How long the last lines may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// What is logged: a level such as `info`, or `target=level,...` as in RUST_LOG.
pub(crate) type Filter = Targets;

enum LogMsg {
    Line(Vec<u8>),
    /// Reply when all lines before this one are written.
    Flush(SyncSender<()>),
}

/// A handle of the log thread.
#[derive(Clone)]
pub(crate) struct Log {
    messages: SyncSender<LogMsg>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Sends the log of this process to stderr or journald. Logs panics, too: the default hook
    /// would write to stderr itself, and wait.
    ///
    /// # Errors
    /// Why there is no thread.
    pub(crate) fn start(filter: Filter) -> io::Result<Log> {
        let (messages, inbox) = sync_channel(QUEUE_LEN);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Log {
            messages,
            lost: Arc::clone(&lost),
        };
        let writer = thread::Builder::new().name("pathpulse-log".to_owned());
        let registry = tracing_subscriber::registry().with(filter);
        if let Some(mut journald) = Journald::of_stderr() {
            writer.spawn(move || write_all(&inbox, &lost, &mut journald, journald::lost))?;
            registry.with(JournaldLayer(log.clone())).init();
        } else {
            writer.spawn(move || write_all(&inbox, &lost, &mut io::stderr(), lost_line))?;
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

    /// Takes a finished line or record, without waiting.
    pub(crate) fn take(&self, line: Vec<u8>) {
        if !line.is_empty() && self.messages.try_send(LogMsg::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits a short time until all lines are written.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.messages.try_send(LogMsg::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_LIMIT);
        }
    }
}

/// Writes the fields after the message. The fields of an event are left out, since its message has
/// them.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        // One record is one line, whatever its text contains.
        "message" => writer.write_str(&printable(&format!("{value:?}"))),
        name if name.starts_with("event.") => Ok(()),
        name => write!(writer, " {name}={}", printable(&format!("{value:?}"))),
    }
}

fn lost_line(lines: u64) -> Vec<u8> {
    format!("{lines} log lines were lost: stderr was not read\n").into_bytes()
}

fn write_all(
    inbox: &Receiver<LogMsg>,
    lost: &AtomicU64,
    to: &mut impl Write,
    lost_line: fn(u64) -> Vec<u8>,
) {
    for message in inbox {
        match message {
            LogMsg::Line(line) => {
                if to.write_all(&line).is_err() {
                    lost.fetch_add(1, Relaxed);
                    continue;
                }
                let before = lost.swap(0, Relaxed);
                if before > 0 && to.write_all(&lost_line(before)).is_err() {
                    lost.fetch_add(before, Relaxed);
                }
            }
            LogMsg::Flush(done) => drop(done.send(())),
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

/// Collects one line, and passes it on when it is complete.
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
        let (messages, inbox) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Log {
            messages,
            lost: Arc::clone(&lost),
        };
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            let _ = log.make_writer().write_all(line.as_bytes());
        }
        drop(log);
        let mut written = Vec::new();
        write_all(&inbox, &lost, &mut written, lost_line);
        let text = String::from_utf8(written).expect("text");
        assert_eq!(
            text,
            "one\n2 log lines were lost: stderr was not read\ntwo\n"
        );
    }

    /// Accepts some of the writes.
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
        let (messages, inbox) = sync_channel(8);
        let lost = Arc::new(AtomicU64::new(0));
        for line in ["1\n", "2\n", "3\n", "4\n", "5\n"] {
            messages.send(LogMsg::Line(line.into())).expect("room");
        }
        drop(messages);
        let mut broken = Broken::default();
        write_all(&inbox, &lost, &mut broken, lost_line);
        // 1 and 2 are rejected, and after 3 the report about them, and 4.
        let text = String::from_utf8(broken.1).expect("text");
        let told = "3\n5\n3 log lines were lost: stderr was not read\n";
        assert_eq!((text.as_str(), lost.load(Relaxed)), (told, 0));
    }
}
