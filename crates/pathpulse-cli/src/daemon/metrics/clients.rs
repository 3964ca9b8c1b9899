//! Counters of HTTP clients. The server counts; the metrics and the status read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::api::ClientsDocument;

/// How many clients are connected, and how many were dropped.
#[derive(Debug, Default)]
pub(crate) struct ClientCounters {
    connected: AtomicU64,
    turned_away: AtomicU64,
    too_slow: AtomicU64,
}

impl ClientCounters {
    /// Counts a client as connected until the result is dropped.
    pub(crate) fn connect(self: &Arc<ClientCounters>) -> ConnectedClient {
        self.connected.fetch_add(1, Relaxed);
        ConnectedClient(Arc::clone(self))
    }

    /// Counts a client that was rejected because the limit was reached.
    pub(crate) fn count_turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    /// Counts a client that did not read its answer in time.
    pub(crate) fn count_too_slow(&self) {
        self.too_slow.fetch_add(1, Relaxed);
    }

    pub(crate) fn document(&self) -> ClientsDocument {
        ClientsDocument {
            here: self.connected.load(Relaxed),
            turned_away: self.turned_away.load(Relaxed),
            too_slow: self.too_slow.load(Relaxed),
        }
    }
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct ConnectedClient(Arc<ClientCounters>);

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_until_they_disconnect() {
        let clients = Arc::new(ClientCounters::default());
        let (one, two) = (clients.connect(), clients.connect());
        assert_eq!(clients.document().here, 2);
        drop(one);
        drop(two);
        clients.count_too_slow();
        let expected = ClientsDocument {
            here: 0,
            turned_away: 0,
            too_slow: 1,
        };
        assert_eq!(clients.document(), expected);
    }
}
