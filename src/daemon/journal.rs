//! Takes the engine's events: one log line for each, and a place in the history.

use pathpulse::{Event, EventStream, State};

use super::document::EventDocument;
use super::history::{History, Told};
use super::metrics::Tally;

/// Takes events for as long as there is an engine.
pub(crate) fn keep(events: &EventStream, history: &History, tally: &Tally) {
    while let Some(event) = events.next() {
        log(&event);
        if let Ok(text) = serde_json::to_string(&EventDocument::new(&event)) {
            history.tell(Told::Event(text.into()));
        }
        let lost = events.take_lost();
        if lost > 0 {
            tally.count_lost(lost);
            tracing::warn!(
                "{lost} events were lost, there were too many at once; the status is right"
            );
            history.tell(Told::Lost(lost));
        }
    }
}

fn log(event: &Event) {
    let path = event.path.name().display();
    let Event {
        from, to, detail, ..
    } = event;
    let cause = event.cause.name();
    let colon = if detail.is_empty() { "" } else { ": " };
    if from == to {
        tracing::info!("{path} is still {to} ({cause}){colon}{detail}");
    } else if matches!(to, State::Down | State::Marginal) {
        tracing::warn!("{path} {from} -> {to} ({cause}){colon}{detail}");
    } else {
        tracing::info!("{path} {from} -> {to} ({cause}){colon}{detail}");
    }
}
