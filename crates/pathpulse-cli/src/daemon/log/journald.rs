//! Records for journald, with fields: `journalctl PATHPULSE_EVENT_TO=down`.
//!
//! A record is one datagram to journald's socket, in its native protocol. The logging thread makes
//! it, and the log thread sends it: if journald hangs, lines are lost and no other thread waits.

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
/// Longer values are cut, since the size of a datagram is limited.
const VALUE_MAX: usize = 16 * 1024;

/// The connection to journald, if stderr goes there.
pub(crate) struct Journald(UnixDatagram);

impl Journald {
    /// Connects if `JOURNAL_STREAM` identifies stderr; see systemd.exec(5).
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
    /// Sends a record; connects again if journald was restarted.
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

/// The record with the number of lost lines.
pub(crate) fn lost(lines: u64) -> Vec<u8> {
    let mut record = JournalRecord::new(Level::WARN);
    let said = format!("{lines} log lines were lost: journald did not take them");
    record.put("MESSAGE", &said);
    record.0
}

/// Makes a record of each log event.
pub(crate) struct JournaldLayer(pub(crate) Log);

impl<S: Subscriber> Layer<S> for JournaldLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta: &Metadata<'_> = event.metadata();
        let mut record = JournalRecord::new(*meta.level());
        record.put("PATHPULSE_TARGET", meta.target());
        event.record(&mut record);
        self.0.take(record.0);
    }
}

struct JournalRecord(Vec<u8>);

impl JournalRecord {
    fn new(level: Level) -> JournalRecord {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let mut record = JournalRecord(Vec::with_capacity(256));
        record.put("PRIORITY", priority);
        record.put("SYSLOG_IDENTIFIER", "pathpulse");
        record
    }

    /// A value with several lines is preceded by its length.
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

impl Visit for JournalRecord {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&key(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(&key(field.name()), &text);
    }
}

/// Field names of journald have capital letters, digits and underscores.
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
        let mut record = JournalRecord(Vec::new());
        record.put("A", "x=y");
        record.put("B", "1\n2");
        assert_eq!(record.0, b"A=x=y\nB\n\x03\0\0\0\0\0\0\x001\n2\n");
        assert_eq!(key("event.to"), "PATHPULSE_EVENT_TO");
        let mut record = JournalRecord(Vec::new());
        record.put("C", &"\u{e4}".repeat(VALUE_MAX));
        assert!(record.0.len() < VALUE_MAX + 10);
    }
}
