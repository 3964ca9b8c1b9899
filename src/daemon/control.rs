//! What the daemon answers over HTTP. All of it is read from memory: no answer waits for a device.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use pathpulse::Monitor;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::document::{self, PathDocument, StatusDocument};
use super::history::{History, LostDocument, Told};
use super::livez;
use super::metrics::{self, Metrics};
use super::stop::Stopper;

/// How often a follower hears that the daemon is alive when there is nothing else to hear.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the answers are made from.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) history: Arc<History>,
    pub(crate) stopper: Stopper,
    pub(crate) metrics: Metrics,
}

impl FromRef<Control> for Metrics {
    fn from_ref(control: &Control) -> Metrics {
        control.metrics.clone()
    }
}

impl FromRef<Control> for Arc<Monitor> {
    fn from_ref(control: &Control) -> Arc<Monitor> {
        Arc::clone(&control.monitor)
    }
}

/// The answer to `POST /v1/stop`.
#[derive(Debug, Serialize)]
struct StopDocument {
    stopping: bool,
    pid: u32,
}

/// All that can be asked.
pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/paths", get(paths))
        .route("/v1/events", get(events))
        .route("/v1/stop", post(stop))
        .route("/healthz", get(livez::health))
        .route("/livez", get(livez::answer))
        .route("/metrics", get(metrics::answer))
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such resource\n"))
        .with_state(control)
}

/// The same for those who may only look, as everyone who reaches the TCP address.
pub(crate) fn read_only_router(control: Control) -> Router {
    router(control).layer(middleware::from_fn(only_get))
}

async fn only_get(request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let why = "this address answers GET only; commands go to the daemon's socket\n";
    let allow = [(header::ALLOW, "GET")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, why).into_response()
}

async fn status(State(control): State<Control>) -> Json<StatusDocument> {
    Json(StatusDocument::new(&control.monitor))
}

async fn paths(State(control): State<Control>) -> Json<Vec<PathDocument>> {
    Json(document::paths(&control.monitor))
}

async fn stop(State(control): State<Control>) -> Json<StopDocument> {
    // On this one thread that runs when the answer is written, or has to wait for its reader.
    tokio::spawn(async move { control.stopper.stop("asked over the socket") });
    Json(StopDocument {
        stopping: true,
        pid: std::process::id(),
    })
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    #[serde(default)]
    follow: bool,
}

/// Server-sent events: those kept, then with `?follow=true` those to come. One named `lost` says
/// how many are missing in its place.
async fn events(
    State(control): State<Control>,
    Query(query): Query<EventsQuery>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (past, live) = control.history.follow();
    let feed = Feed {
        past,
        live: query.follow.then_some(live),
    };
    let events = stream::unfold(feed, async |mut feed| Some((Ok(feed.next().await?), feed)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"))
}

/// One client's way through the events.
struct Feed {
    past: VecDeque<Told>,
    live: Option<Receiver<Told>>,
}

impl Feed {
    async fn told(&mut self) -> Option<Told> {
        if let Some(told) = self.past.pop_front() {
            return Some(told);
        }
        match self.live.as_mut()?.recv().await {
            Ok(told) => Some(told),
            Err(RecvError::Lagged(lost)) => Some(Told::Lost(lost)),
            Err(RecvError::Closed) => None,
        }
    }

    async fn next(&mut self) -> Option<Event> {
        match self.told().await? {
            Told::Event(text) => Some(Event::default().data(text)),
            Told::Lost(lost) => Event::default()
                .event("lost")
                .json_data(LostDocument { lost })
                .ok(),
            Told::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_that_lags_is_told_what_it_lost_and_goes_on() {
        let history = History::default();
        let event = |n: u32| Told::Event(n.to_string().into());
        history.tell(event(0));
        let (past, live) = history.follow();
        let mut feed = Feed {
            past,
            live: Some(live),
        };
        // While its client did not read, more came than are kept for it.
        for n in 1..=3_000 {
            history.tell(event(n));
        }
        history.end();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let (mut events, mut lost) = (Vec::new(), 0);
        runtime.expect("a runtime").block_on(async {
            loop {
                match feed.told().await.expect("the end comes first") {
                    Told::Event(text) => events.push(text.parse::<u64>().expect("a number")),
                    Told::Lost(count) => lost += count,
                    Told::End => break,
                }
            }
        });
        assert_eq!((events[0], events.last()), (0, Some(&3_000)));
        assert_eq!(events.len() as u64 + lost, 3_001);
        assert!(lost > 1_000, "{lost}");
        assert!(events[1..].is_sorted());
    }
}
