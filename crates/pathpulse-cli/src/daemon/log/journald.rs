//! Log lines as journald's records, with fields: `journalctl PATHPULSE_EVENT_TO=down`.
//!
//! A record is one datagram to journald's socket, in its native protocol. It is made by whoever logs,
//! and sent by the thread that writes the log: when journald hangs, lines are lost, and nobody waits.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::writer::Log;

const SOCKET: &str = "/run/systemd/journal/socket";
/// What is longer is cut: a datagram has its limit, and so has what anyone reads.
const VALUE_MAX: usize = 16 * 1024;

/// The way to journald, if it is journald that takes stderr.
pub(crate) struct Journald(UnixDatagram);

impl Journald {
    /// Connects when `JOURNAL_STREAM` names what stderr is, as systemd.exec(5) says.
    pub(crate) fn of_stderr() -> Option<Journald> {
        let named = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
        if named != format!("{}:{}", stderr.dev(), stderr.ino()) {
            return None;
        }
        connect().ok().map(Journald)
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    Ok(socket)
}

impl Write for Journald {
    /// Sends a record; anew when journald was started anew.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.send(record).or_else(|_| {
            self.0 = connect()?;
            self.0.send(record)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The record that says how many lines were lost.
pub(crate) fn lost(lines: u64) -> Vec<u8> {
    let mut record = Record::new(Level::WARN);
    let said = format!("{lines} log lines were lost: journald did not take them");
    record.put("MESSAGE", &said);
    record.0
}

/// Makes records of what is logged.
pub(crate) struct Records(pub(crate) Log);

impl<S: Subscriber> Layer<S> for Records {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta: &Metadata<'_> = event.metadata();
        let mut record = Record::new(*meta.level());
        record.put("PATHPULSE_TARGET", meta.target());
        event.record(&mut record);
        self.0.take(record.0);
    }
}

struct Record(Vec<u8>);

impl Record {
    fn new(level: Level) -> Record {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let mut record = Record(Vec::with_capacity(256));
        record.put("PRIORITY", priority);
        record.put("SYSLOG_IDENTIFIER", "pathpulse");
        record
    }

    /// A value of several lines has its length before it.
    fn put(&mut self, key: &str, value: &str) {
        let mut end = value.len().min(VALUE_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = &value[..end];
        self.0.extend_from_slice(key.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0
                .extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&key(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(&key(field.name()), &text);
    }
}

/// journald's names have capital letters, digits and underscores.
fn key(field: &str) -> String {
    if field == "message" {
        return "MESSAGE".to_owned();
    }
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let name: String = field.chars().map(allowed).collect();
    format!("PATHPULSE_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_several_lines_have_their_length_before_them() {
        let mut record = Record(Vec::new());
        record.put("A", "x=y");
        record.put("B", "1\n2");
        assert_eq!(record.0, b"A=x=y\nB\n\x03\0\0\0\0\0\0\x001\n2\n");
        assert_eq!(key("event.to"), "PATHPULSE_EVENT_TO");
        let mut record = Record(Vec::new());
        record.put("C", &"\u{e4}".repeat(VALUE_MAX));
        assert!(record.0.len() < VALUE_MAX + 10);
    }
}
