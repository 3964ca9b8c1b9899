//! The last events, and the way of new ones to whoever follows them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::api::document::EventDocument;

/// Events that are kept, and events that a follower may lag behind.
pub(crate) const KEPT: usize = 1_000;
/// How long followers may take to hear that the daemon stops.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a follower hears.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// An event, as a line of JSON.
    Event(Arc<str>),
    /// So many events were lost on the way.
    Lost(u64),
    /// The daemon stops.
    End,
}

impl Told {
    /// Whether it is an event of before that time. What has none is not.
    pub(crate) fn is_before(&self, time: Timestamp) -> bool {
        let Told::Event(text) = self else {
            return false;
        };
        let document = serde_json::from_str::<EventDocument>(text);
        document.is_ok_and(|event| {
            (event.time.parse::<Timestamp>()).is_ok_and(|happened| happened < time)
        })
    }
}

/// How losses are told to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostDocument {
    /// So many events, at this place of the stream.
    pub(crate) lost: u64,
}

/// Events, past and to come.
#[derive(Debug)]
pub(crate) struct History(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    past: VecDeque<Told>,
    followers: broadcast::Sender<Told>,
}

impl Default for History {
    fn default() -> History {
        History(Mutex::new(Inner {
            past: VecDeque::with_capacity(KEPT),
            followers: broadcast::channel(KEPT).0,
        }))
    }
}

impl History {
    /// Keeps an event, or the loss of some, and tells followers. Waits for none of them: those too
    /// slow lose events, and are told.
    pub(crate) fn tell(&self, told: Told) {
        let mut inner = self.lock();
        if inner.past.len() == KEPT {
            inner.past.pop_front();
        }
        inner.past.push_back(told.clone());
        let _ = inner.followers.send(told);
    }

    /// Takes in events of before this daemon's start, oldest first, as far as there is room.
    pub(crate) fn recall(&self, events: Vec<Arc<str>>) {
        let mut inner = self.lock();
        let room = KEPT.saturating_sub(inner.past.len());
        for event in events.into_iter().rev().take(room) {
            inner.past.push_front(Told::Event(event));
        }
    }

    /// Tells followers that there is no more to come, and lets them hear it, if they do soon.
    pub(crate) fn end(&self) {
        let followers = self.lock().followers.clone();
        let _ = followers.send(Told::End);
        let begin = Instant::now();
        while followers.receiver_count() > 0 && begin.elapsed() < LAST_WORDS {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is kept, and what comes right after it.
    pub(crate) fn follow(&self) -> (VecDeque<Told>, broadcast::Receiver<Told>) {
        let inner = self.lock();
        (inner.past.clone(), inner.followers.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(told: &Told) -> usize {
        match told {
            Told::Event(text) => text.parse().expect("a number"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_recalled_comes_before_what_happened_since_and_drives_none_of_it_out() {
        let history = History::default();
        for n in 0..600 {
            history.tell(Told::Event(n.to_string().into()));
        }
        history.recall((1_000..1_500).map(|n| n.to_string().into()).collect());
        let (past, _) = history.follow();
        let numbers: Vec<usize> = past.iter().map(number).collect();
        assert_eq!(numbers, (1_100..1_500).chain(0..600).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_thousand_are_kept_and_followers_miss_none_between() {
        let history = History::default();
        for n in 0..1_500 {
            history.tell(Told::Event(n.to_string().into()));
        }
        let (past, mut live) = history.follow();
        assert_eq!((past.len(), number(&past[0])), (1_000, 500));
        history.tell(Told::Event("1500".into()));
        assert_eq!(
            number(&past[999]) + 1,
            number(&live.try_recv().expect("new"))
        );
        assert!(live.try_recv().is_err());
    }
}
