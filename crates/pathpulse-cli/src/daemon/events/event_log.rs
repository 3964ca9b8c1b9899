//! Takes the engine's events. Each becomes one log line, an entry of the history, a line of the
//! state file, and a message to the actions.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{Backlog, Cause, Event, EventStream, State, display_name};

use super::counters::EventCounters;
use super::history::{EventHistory, HistoryMsg};
use super::store::EventStore;
use crate::api::EventDocument;

/// Receives each event before followers do; must not block.
type OnEvent = Arc<dyn Fn(&EventDocument) + Send + Sync>;

/// Where all events come together: those of the engine and those of the watchlist. Clones are the
/// same log.
#[derive(Clone)]
pub(crate) struct EventLog {
    history: Arc<EventHistory>,
    store: EventStore,
    on_event: OnEvent,
    counters: Arc<EventCounters>,
    backlog: Backlog,
}

impl EventLog {
    /// A log that passes each event to `on_event`, the history and the store.
    pub(crate) fn new(
        history: &Arc<EventHistory>,
        store: &EventStore,
        on_event: impl Fn(&EventDocument) + Send + Sync + 'static,
        counters: &Arc<EventCounters>,
        backlog: Backlog,
    ) -> EventLog {
        EventLog {
            history: Arc::clone(history),
            store: store.clone(),
            on_event: Arc::new(on_event),
            counters: Arc::clone(counters),
            backlog,
        }
    }

    /// Takes events from the engine until the engine ends.
    pub(crate) fn run(&self, events: &EventStream) {
        while let Some(event) = events.next() {
            write_log_line(&event);
            self.publish(&EventDocument::new(&event));
            let lost = events.take_lost();
            if lost > 0 {
                self.counters.count_lost(lost);
                tracing::warn!(
                    "{lost} events were lost, there were too many at once; the status is right"
                );
                self.history.publish(HistoryMsg::Lost(lost));
            }
        }
    }

    /// Waits until all events that the engine has produced so far are published, at most `limit`.
    pub(crate) fn catch_up(&self, limit: Duration) {
        let (told, end) = (self.backlog.told(), Instant::now() + limit);
        while self.backlog.done() < told && Instant::now() < end {
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Stores an event and passes it to the actions and the followers.
    pub(crate) fn publish(&self, event: &EventDocument) {
        (self.on_event)(event);
        if let Ok(text) = serde_json::to_string(event) {
            let text: Arc<str> = text.into();
            self.store.keep(&text);
            self.history.publish(HistoryMsg::Event(text));
        }
    }
}

/// Logs an event. The text is the same at each level; the fields are for queries of journald.
fn write_log_line(event: &Event) {
    macro_rules! line {
        ($level:ident, $change:expr) => {
            tracing::$level!(
                event.path = %display_name(event.path.name()),
                event.device = %event.path.device(),
                event.from = event.from.name(),
                event.to = event.to.name(),
                event.cause = event.cause.name(),
                "{} {} ({}){}{}",
                display_name(event.path.name()),
                $change,
                event.cause.name(),
                if event.detail.is_empty() { "" } else { ": " },
                event.detail
            )
        };
    }
    let Event { from, to, .. } = event;
    if event.cause == Cause::LeadsElsewhere {
        line!(warn, format_args!("is still {to}"));
    } else if from == to {
        line!(info, format_args!("is still {to}"));
    } else if matches!(to, State::Down | State::Marginal) {
        line!(warn, format_args!("{from} -> {to}"));
    } else {
        line!(info, format_args!("{from} -> {to}"));
    }
}
