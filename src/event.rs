//! Events: what changed, when and why; and the streams that carry them to whoever wants to know.
//!
//! A worker never waits for a reader. A stream has room for so many events; those that find it full
//! are lost to this reader, who is told how many and can ask for a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use crate::health::{Cause, State};
use crate::path::PathInfo;

/// Something that happened to a path.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, by the wall clock.
    pub time: SystemTime,
    /// To which path.
    pub path: Arc<PathInfo>,
    /// The state before.
    pub from: State,
    /// The state now; the same as before for [`Cause::LateAnswer`].
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The particulars, in words.
    pub detail: String,
}

/// The worker's end of a stream.
#[derive(Clone)]
pub(crate) struct Subscriber {
    sender: SyncSender<Event>,
    lost: Arc<AtomicU64>,
}

impl Subscriber {
    /// Hands an event on without waiting; `false` when nobody listens any more.
    pub(crate) fn tell(&self, event: &Event) -> bool {
        match self.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The reader's end of a stream of events, in the order in which they happened on each path.
pub struct EventStream {
    receiver: Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl EventStream {
    /// A stream that holds up to `capacity` events, and its other end.
    pub(crate) fn new(capacity: usize) -> (Subscriber, EventStream) {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber {
            sender,
            lost: Arc::clone(&lost),
        };
        (subscriber, EventStream { receiver, lost })
    }

    /// Waits for the next event; `None` when the monitor is gone and all events were taken.
    pub fn next(&self) -> Option<Event> {
        self.receiver.recv().ok()
    }

    /// Waits for the next event for so long at the most.
    pub fn next_within(&self, limit: Duration) -> Option<Event> {
        self.receiver.recv_timeout(limit).ok()
    }

    /// How many events were lost since the last call, because this reader was too slow.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceId;

    fn event() -> Event {
        let id = DeviceId::Block { major: 7, minor: 0 };
        Event {
            time: SystemTime::now(),
            path: Arc::new(PathInfo::new("/dev/loop0".into(), id, None)),
            from: State::Up,
            to: State::Down,
            cause: Cause::ErrorRate,
            detail: String::new(),
        }
    }

    #[test]
    fn a_slow_reader_loses_events_and_is_told_how_many() {
        let (subscriber, stream) = EventStream::new(2);
        for _ in 0..5 {
            assert!(subscriber.tell(&event()));
        }
        assert_eq!(stream.take_lost(), 3);
        assert_eq!(stream.take_lost(), 0);
        assert!(stream.next().is_some() && stream.next().is_some());
        assert!(stream.next_within(Duration::ZERO).is_none());
        drop(stream);
        assert!(!subscriber.tell(&event()));
    }
}
