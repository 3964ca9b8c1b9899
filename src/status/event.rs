//! Events (what changed, when and why) and the streams that deliver them.
//!
//! A worker never waits for a reader. A stream has a fixed capacity. Events that find it full are
//! lost to this reader; the stream counts them, and the reader can take a status snapshot instead.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use crate::health::{Cause, State};
use crate::status::{PathId, PathInfo};

/// Something that happened to a path.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it happened, by the wall clock.
    pub time: SystemTime,
    /// The id of the path.
    pub id: PathId,
    /// The path.
    pub path: Arc<PathInfo>,
    /// The state before.
    pub from: State,
    /// The state now; the same as before for [`Cause::LateAnswer`] and [`Cause::LeadsElsewhere`].
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// Details as text.
    pub detail: String,
}

/// Result of [`EventStream::next_within`]. It distinguishes a pause from the end, so that a loop
/// over events knows when to stop.
#[derive(Clone, Debug)]
pub enum Next {
    /// An event.
    Event(Event),
    /// No event came within the limit. One may come later.
    Timeout,
    /// The monitor has ended and all its events were taken. No more events will come.
    Ended,
}

impl Next {
    /// The event, if there is one.
    pub fn event(self) -> Option<Event> {
        match self {
            Next::Event(event) => Some(event),
            Next::Timeout | Next::Ended => None,
        }
    }
}

/// The worker's end of a stream.
#[derive(Clone)]
pub(crate) struct Subscriber {
    sender: SyncSender<Event>,
    lost: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Subscriber {
    /// Sends an event without waiting. Returns `false` if the stream was dropped.
    pub(crate) fn send(&self, event: &Event) -> bool {
        // Count before sending: a reader must never see all events as done while one is still
        // queued.
        self.sent.fetch_add(1, Release);
        match self.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.sent.fetch_sub(1, Release);
                self.lost.fetch_add(1, Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The reader's end of a stream. Events of one path come in the order in which they happened.
pub struct EventStream {
    receiver: Receiver<Event>,
    lost: Arc<AtomicU64>,
    backlog: Backlog,
}

/// Lets other threads see how far the reader of a stream is behind.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    sent: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
}

impl Backlog {
    /// Number of events sent to the stream so far, without the lost ones.
    pub fn sent(&self) -> u64 {
        self.sent.load(Acquire)
    }

    /// The former name of [`Backlog::sent`].
    #[doc(hidden)]
    pub fn told(&self) -> u64 {
        self.sent()
    }

    /// Number of events that the reader has handled. An event counts as handled when the reader
    /// asks for the next one.
    pub fn done(&self) -> u64 {
        self.done.load(Acquire)
    }

    fn mark_done(&self) {
        self.done.store(self.taken.load(Relaxed), Release);
    }

    fn count_taken(&self) {
        self.taken.fetch_add(1, Relaxed);
    }
}

impl EventStream {
    /// Creates a stream with this capacity, and its sending end.
    pub(crate) fn new(capacity: usize) -> (Subscriber, EventStream) {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        let backlog = Backlog::default();
        let subscriber = Subscriber {
            sender,
            lost: Arc::clone(&lost),
            sent: Arc::clone(&backlog.sent),
        };
        let stream = EventStream {
            receiver,
            lost,
            backlog,
        };
        (subscriber, stream)
    }

    /// Waits for the next event; `None` when the monitor has ended and all events were taken.
    pub fn next(&self) -> Option<Event> {
        self.backlog.mark_done();
        let event = self.receiver.recv().ok()?;
        self.backlog.count_taken();
        Some(event)
    }

    /// Waits for the next event, up to this limit.
    pub fn next_within(&self, limit: Duration) -> Next {
        self.backlog.mark_done();
        let received = self.receiver.recv_timeout(limit);
        match received {
            Ok(event) => {
                self.backlog.count_taken();
                Next::Event(event)
            }
            Err(RecvTimeoutError::Timeout) => Next::Timeout,
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
        }
    }

    /// Shows how far the reader of this stream is behind.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Number of events lost since the last call because the stream was full.
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
            id: PathId::from_number(0),
            path: Arc::new(PathInfo::new("/dev/loop0".into(), id, None)),
            from: State::Up,
            to: State::Down,
            cause: Cause::ErrorRate,
            detail: String::new(),
        }
    }

    #[test]
    fn a_slow_reader_loses_events_and_sees_how_many() {
        let (subscriber, stream) = EventStream::new(2);
        for _ in 0..5 {
            assert!(subscriber.send(&event()));
        }
        assert_eq!(stream.take_lost(), 3);
        assert_eq!(stream.take_lost(), 0);
        let backlog = stream.backlog();
        assert_eq!((backlog.sent(), backlog.done()), (2, 0));
        assert!(stream.next().is_some() && stream.next().is_some());
        assert_eq!(backlog.done(), 1, "it may still be busy with the second");
        assert!(matches!(stream.next_within(Duration::ZERO), Next::Timeout));
        assert_eq!(backlog.done(), 2);
        drop(stream);
        assert!(!subscriber.send(&event()));
    }

    #[test]
    fn a_pause_of_events_differs_from_their_end() {
        let (subscriber, stream) = EventStream::new(2);
        assert!(matches!(stream.next_within(Duration::ZERO), Next::Timeout));
        assert!(subscriber.send(&event()));
        drop(subscriber);
        // Events sent before the end are delivered before it.
        assert!(stream.next_within(Duration::ZERO).event().is_some());
        for _ in 0..2 {
            assert!(matches!(stream.next_within(Duration::MAX), Next::Ended));
        }
        assert!(stream.next().is_none());
    }
}
