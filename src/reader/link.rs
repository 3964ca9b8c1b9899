//! The sending end of the connection of a reader to its supervisor.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use super::codec::put_frame;
use super::message::ReportMsg;

/// Sends reports, from any thread. A call waits as long as the supervisor reads nothing.
pub(in crate::reader) struct Link(Mutex<Sending>);

struct Sending {
    socket: UnixStream,
    /// Reused, so that a report allocates nothing.
    buffer: Vec<u8>,
}

impl Link {
    pub(super) fn new(socket: UnixStream) -> Link {
        Link(Mutex::new(Sending {
            socket,
            buffer: Vec::new(),
        }))
    }

    /// Sends a report. If the supervisor is gone, nothing happens: the main thread notices it.
    pub(super) fn send(&self, report: &ReportMsg) {
        let mut sending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Sending { socket, buffer } = &mut *sending;
        buffer.clear();
        // Texts are far shorter than the limit.
        if put_frame(report, buffer).is_err() {
            return;
        }
        let _ = socket.write_all(buffer);
    }
}
