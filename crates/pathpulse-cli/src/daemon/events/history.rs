//! The last events in memory, and the channel of new ones to followers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::api::EventDocument;

/// Number of events that are kept, and that a follower may lag behind.
pub(crate) const EVENTS_KEPT: usize = 1_000;
/// How long followers may take to receive the end of the stream.
const END_LIMIT: Duration = Duration::from_millis(50);

/// Messages to followers.
#[derive(Clone, Debug)]
pub(crate) enum HistoryMsg {
    /// An event, as a line of JSON.
    Event(Arc<str>),
    /// This many events were lost.
    Lost(u64),
    /// The daemon stops.
    End,
}

impl HistoryMsg {
    /// Whether it is an event before `time`.
    pub(crate) fn is_before(&self, time: Timestamp) -> bool {
        let HistoryMsg::Event(text) = self else {
            return false;
        };
        let document = serde_json::from_str::<EventDocument>(text);
        document.is_ok_and(|event| {
            (event.time.parse::<Timestamp>()).is_ok_and(|happened| happened < time)
        })
    }
}

/// The last events and the followers of new ones.
#[derive(Debug)]
pub(crate) struct EventHistory(Mutex<HistoryState>);

#[derive(Debug)]
struct HistoryState {
    past: VecDeque<HistoryMsg>,
    followers: broadcast::Sender<HistoryMsg>,
}

impl Default for EventHistory {
    fn default() -> EventHistory {
        EventHistory(Mutex::new(HistoryState {
            past: VecDeque::with_capacity(EVENTS_KEPT),
            followers: broadcast::channel(EVENTS_KEPT).0,
        }))
    }
}

impl EventHistory {
    /// Keeps a message and sends it to the followers without waiting. A follower that is too slow
    /// loses messages and is told how many.
    pub(crate) fn publish(&self, message: HistoryMsg) {
        let mut inner = self.lock();
        if inner.past.len() == EVENTS_KEPT {
            inner.past.pop_front();
        }
        inner.past.push_back(message.clone());
        let _ = inner.followers.send(message);
    }

    /// Adds events of earlier daemons, oldest first, before those of this one, as far as there is
    /// room.
    pub(crate) fn restore(&self, events: Vec<Arc<str>>) {
        let mut inner = self.lock();
        let room = EVENTS_KEPT.saturating_sub(inner.past.len());
        for event in events.into_iter().rev().take(room) {
            inner.past.push_front(HistoryMsg::Event(event));
        }
    }

    /// Ends the streams of the followers, and waits a moment until they have received that.
    pub(crate) fn end(&self) {
        let followers = self.lock().followers.clone();
        let _ = followers.send(HistoryMsg::End);
        let begin = Instant::now();
        while followers.receiver_count() > 0 && begin.elapsed() < END_LIMIT {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The kept messages, and a receiver of those that follow.
    pub(crate) fn follow(&self) -> (VecDeque<HistoryMsg>, broadcast::Receiver<HistoryMsg>) {
        let inner = self.lock();
        (inner.past.clone(), inner.followers.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, HistoryState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(message: &HistoryMsg) -> usize {
        match message {
            HistoryMsg::Event(text) => text.parse().expect("a number"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_restored_comes_before_what_happened_since_and_drives_none_of_it_out() {
        let history = EventHistory::default();
        for n in 0..600 {
            history.publish(HistoryMsg::Event(n.to_string().into()));
        }
        history.restore((1_000..1_500).map(|n| n.to_string().into()).collect());
        let (past, _) = history.follow();
        let numbers: Vec<usize> = past.iter().map(number).collect();
        assert_eq!(numbers, (1_100..1_500).chain(0..600).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_thousand_are_kept_and_followers_miss_none_between() {
        let history = EventHistory::default();
        for n in 0..1_500 {
            history.publish(HistoryMsg::Event(n.to_string().into()));
        }
        let (past, mut live) = history.follow();
        assert_eq!((past.len(), number(&past[0])), (1_000, 500));
        history.publish(HistoryMsg::Event("1500".into()));
        assert_eq!(
            number(&past[999]) + 1,
            number(&live.try_recv().expect("new"))
        );
        assert!(live.try_recv().is_err());
    }
}
