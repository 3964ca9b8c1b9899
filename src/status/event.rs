//! Events: what changed, when and why; and the streams that carry them to whoever wants to know.
//!
//! A worker never waits for a reader. A stream has room for so many events; those that find it full
//! are lost to this reader, who is told how many and can ask for a snapshot.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use crate::health::{Cause, State};
use crate::status::PathInfo;

/// Something that happened to a path.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, by the wall clock.
    pub time: SystemTime,
    /// To which path.
    pub path: Arc<PathInfo>,
    /// The state before.
    pub from: State,
    /// The state now; the same as before for [`Cause::LateAnswer`] and [`Cause::LeadsElsewhere`].
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The particulars, in words.
    pub detail: String,
}

/// What [`EventStream::next_within`] brings. The answers are three, so that a loop that waits for
/// events can tell when there will be no more of them.
#[derive(Clone, Debug)]
pub enum Next {
    /// An event.
    Event(Event),
    /// There was none within the limit; there may be one later.
    Timeout,
    /// The monitor has ended, and all events were taken: there will never be another one.
    Ended,
}

impl Next {
    /// The event, if it is one.
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
    told: Arc<AtomicU64>,
}

impl Subscriber {
    /// Hands an event on without waiting; `false` when nobody listens any more.
    pub(crate) fn tell(&self, event: &Event) -> bool {
        // Before it is taken, so that whoever counts never thinks that all are when some are not.
        self.told.fetch_add(1, Release);
        match self.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.told.fetch_sub(1, Release);
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
    backlog: Backlog,
}

/// How far the reader of a stream is behind, for others to see.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    told: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
}

impl Backlog {
    /// Events that the stream was told so far, but for those that were lost.
    pub fn told(&self) -> u64 {
        self.told.load(Acquire)
    }

    /// Those that its reader is done with: with the last one it is when it asks for the next.
    pub fn done(&self) -> u64 {
        self.done.load(Acquire)
    }

    fn ask(&self) {
        self.done.store(self.taken.load(Relaxed), Release);
    }

    fn count_taken(&self) {
        self.taken.fetch_add(1, Relaxed);
    }
}

impl EventStream {
    /// A stream that holds up to `capacity` events, and its other end.
    pub(crate) fn new(capacity: usize) -> (Subscriber, EventStream) {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        let backlog = Backlog::default();
        let subscriber = Subscriber {
            sender,
            lost: Arc::clone(&lost),
            told: Arc::clone(&backlog.told),
        };
        let stream = EventStream {
            receiver,
            lost,
            backlog,
        };
        (subscriber, stream)
    }

    /// Waits for the next event; `None` when the monitor is gone and all events were taken.
    pub fn next(&self) -> Option<Event> {
        self.backlog.ask();
        let event = self.receiver.recv().ok()?;
        self.backlog.count_taken();
        Some(event)
    }

    /// Waits for the next event for so long at the most.
    pub fn next_within(&self, limit: Duration) -> Next {
        self.backlog.ask();
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

    /// How far its reader is behind.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
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
        let backlog = stream.backlog();
        assert_eq!((backlog.told(), backlog.done()), (2, 0));
        assert!(stream.next().is_some() && stream.next().is_some());
        assert_eq!(backlog.done(), 1, "it may still be busy with the second");
        assert!(matches!(stream.next_within(Duration::ZERO), Next::Timeout));
        assert_eq!(backlog.done(), 2);
        drop(stream);
        assert!(!subscriber.tell(&event()));
    }

    #[test]
    fn a_loop_over_events_can_tell_a_pause_from_the_end() {
        let (subscriber, stream) = EventStream::new(2);
        assert!(matches!(stream.next_within(Duration::ZERO), Next::Timeout));
        assert!(subscriber.tell(&event()));
        drop(subscriber);
        // What was told before the end comes before it.
        assert!(stream.next_within(Duration::ZERO).event().is_some());
        for _ in 0..2 {
            assert!(matches!(stream.next_within(Duration::MAX), Next::Ended));
        }
        assert!(stream.next().is_none());
    }
}
