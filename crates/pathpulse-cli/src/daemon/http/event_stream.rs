//! `GET /v1/events`: the stored events, then those to come, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::state::HttpState;
use crate::api::LostDocument;
use crate::daemon::events::HistoryMsg;

/// Interval of the comments that show a follower of a quiet stream that the daemon is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    #[serde(default)]
    follow: bool,
    /// The number of stored events to send, the latest ones.
    last: Option<usize>,
    /// RFC 3339. Stored events before this time are not sent.
    since: Option<String>,
}

/// Sends the stored events, and with `?follow=true` each new one. An event named `lost` says how
/// many events are missing at its place.
pub(super) async fn answer(
    State(state): State<HttpState>,
    Query(query): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, (StatusCode, String)> {
    let since = query.since.as_deref().map(str::parse::<Timestamp>);
    let since = since.transpose().map_err(|_| {
        let problem = "since: expected a time like 2026-11-22T14:00:00Z\n";
        (StatusCode::BAD_REQUEST, problem.to_owned())
    })?;
    let (mut past, live) = state.history.follow();
    if let Some(since) = since {
        past.retain(|message| !message.is_before(since));
    }
    if let Some(last) = query.last {
        past.drain(..past.len().saturating_sub(last));
    }
    let feed = EventFeed {
        past,
        live: query.follow.then_some(live),
    };
    let events = stream::unfold(feed, async |mut feed| Some((Ok(feed.next().await?), feed)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive")))
}

/// One client's position in the events.
struct EventFeed {
    past: VecDeque<HistoryMsg>,
    live: Option<Receiver<HistoryMsg>>,
}

impl EventFeed {
    async fn message(&mut self) -> Option<HistoryMsg> {
        if let Some(message) = self.past.pop_front() {
            return Some(message);
        }
        match self.live.as_mut()?.recv().await {
            Ok(message) => Some(message),
            Err(RecvError::Lagged(lost)) => Some(HistoryMsg::Lost(lost)),
            Err(RecvError::Closed) => None,
        }
    }

    async fn next(&mut self) -> Option<Event> {
        match self.message().await? {
            HistoryMsg::Event(text) => Some(Event::default().data(text)),
            HistoryMsg::Lost(lost) => Event::default()
                .event("lost")
                .json_data(LostDocument { lost })
                .ok(),
            HistoryMsg::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::events::EventHistory;

    #[test]
    fn a_follower_that_lags_is_told_what_it_lost_and_goes_on() {
        let history = EventHistory::default();
        let event = |n: u32| HistoryMsg::Event(n.to_string().into());
        history.publish(event(0));
        let (past, live) = history.follow();
        let mut feed = EventFeed {
            past,
            live: Some(live),
        };
        // While its client did not read, more came than are kept for it.
        for n in 1..=3_000 {
            history.publish(event(n));
        }
        history.end();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let (mut events, mut lost) = (Vec::new(), 0);
        runtime.expect("a runtime").block_on(async {
            loop {
                match feed.message().await.expect("the end comes first") {
                    HistoryMsg::Event(text) => events.push(text.parse::<u64>().expect("a number")),
                    HistoryMsg::Lost(count) => lost += count,
                    HistoryMsg::End => break,
                }
            }
        });
        assert_eq!((events[0], events.last()), (0, Some(&3_000)));
        assert_eq!(events.len() as u64 + lost, 3_001);
        assert!(lost > 1_000, "{lost}");
        assert!(events[1..].is_sorted());
    }
}
