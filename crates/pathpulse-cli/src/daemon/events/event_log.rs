//! Takes the engine's events: one log line for each, a place in the history, and one in the state file.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{Backlog, Cause, Event, EventStream, State, display_name};

use super::history::{History, Told};
use super::store::Keeper;
use crate::api::document::EventDocument;
use crate::daemon::actions::Actions;
use crate::daemon::metrics::daemon::Tally;

/// Where all events come together, the engine's and others. Clones are the same.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) history: Arc<History>,
    state: Keeper,
    pub(crate) actions: Actions,
    tally: Arc<Tally>,
    backlog: Backlog,
}

impl Journal {
    pub(crate) fn new(
        history: &Arc<History>,
        state: &Keeper,
        actions: Actions,
        tally: &Arc<Tally>,
        backlog: Backlog,
    ) -> Journal {
        Journal {
            history: Arc::clone(history),
            state: state.clone(),
            actions,
            tally: Arc::clone(tally),
            backlog,
        }
    }

    /// Waits until all that the engine has said so far was told, but no longer than `limit`.
    pub(crate) fn catch_up(&self, limit: Duration) {
        let (told, end) = (self.backlog.told(), Instant::now() + limit);
        while self.backlog.done() < told && Instant::now() < end {
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Keeps an event, and tells followers.
    pub(crate) fn tell(&self, event: &EventDocument) {
        self.actions.tell(event);
        if let Ok(text) = serde_json::to_string(event) {
            let text: Arc<str> = text.into();
            self.state.keep(&text);
            self.history.tell(Told::Event(text));
        }
    }
}

/// Takes events for as long as there is an engine.
pub(crate) fn keep(events: &EventStream, journal: &Journal) {
    while let Some(event) = events.next() {
        log(&event);
        journal.tell(&EventDocument::new(&event));
        let lost = events.take_lost();
        if lost > 0 {
            journal.tally.count_lost(lost);
            tracing::warn!(
                "{lost} events were lost, there were too many at once; the status is right"
            );
            journal.history.tell(Told::Lost(lost));
        }
    }
}

/// The same text in each case; the fields are for journald, which can be asked by them.
fn log(event: &Event) {
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
