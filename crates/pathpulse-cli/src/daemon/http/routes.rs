//! What the daemon answers over HTTP. All of it is read from memory: no answer waits for a device.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{FromRef, Path, Query, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use jiff::Timestamp;
use pathpulse::Monitor;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::commands;
use super::openapi;
use super::page;
use super::peers::{Clients, gate};
use super::probes;
use crate::api::document::{self, PathDocument, StatusDocument};
use crate::api::name::{self as names, Listed};
use crate::daemon::events::history::{History, LostDocument, Told};
use crate::daemon::metrics::daemon::{Source, Tally};
use crate::daemon::metrics::writer::{self as metrics, Metrics};
use crate::daemon::process::Predecessors;
use crate::daemon::process::stop::Stopper;
use crate::daemon::watchlist::Roster;

/// How often a follower hears that the daemon is alive when there is nothing else to hear.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the answers are made from.
#[derive(Clone)]
pub(crate) struct Control {
    pub(super) monitor: Arc<Monitor>,
    pub(super) history: Arc<History>,
    pub(super) roster: Roster,
    pub(super) stopper: Stopper,
    metrics: Metrics,
    pub(super) clients: Arc<Clients>,
    predecessors: Predecessors,
}

impl Control {
    /// The answers of this daemon, to nobody yet.
    pub(crate) fn new(
        monitor: &Arc<Monitor>,
        history: &Arc<History>,
        roster: &Roster,
        stopper: &Stopper,
        (tally, predecessors): (Arc<Tally>, Predecessors),
    ) -> Control {
        let clients = Arc::<Clients>::default();
        let metrics = Metrics::new(Source {
            monitor: Arc::clone(monitor),
            roster: roster.clone(),
            clients: Arc::clone(&clients),
            tally,
            predecessors: predecessors.clone(),
            started: SystemTime::now(),
        });
        Control {
            monitor: Arc::clone(monitor),
            history: Arc::clone(history),
            roster: roster.clone(),
            stopper: stopper.clone(),
            metrics,
            clients,
            predecessors,
        }
    }
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

/// All that can be asked, by those who may.
pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/paths", get(paths))
        .route("/v1/paths/{*name}", get(path))
        .route("/v1/events", get(events))
        .route("/v1/stop", post(stop))
        .merge(commands::routes())
        .route("/healthz", get(probes::health))
        .route("/livez", get(probes::answer))
        .route("/metrics", get(metrics::answer))
        .route("/openapi.json", get(openapi::answer))
        .merge(page::routes())
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such resource\n"))
        .layer(middleware::from_fn(gate))
        .with_state(control)
}

async fn status(State(control): State<Control>) -> Json<StatusDocument> {
    let status = StatusDocument::new(&control.monitor, &control.roster.waiting());
    Json(StatusDocument {
        clients: control.clients.document(),
        held_processes: control.predecessors.documents(),
        ..status
    })
}

async fn paths(State(control): State<Control>) -> Json<Vec<PathDocument>> {
    Json(document::paths(&control.monitor, &control.roster.waiting()))
}

/// One path, by its name as it is in documents, or its bytes: with slashes as they are or as `%2F`; the first
/// one may be left out.
async fn path(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Result<Json<PathDocument>, (StatusCode, &'static str)> {
    let name = format!("/{}", name.trim_start_matches('/'));
    let waiting = control.roster.waiting();
    let document = match names::listed(&control.monitor, &waiting, &name) {
        Some(Listed::Watched(id)) => control
            .monitor
            .path(id)
            .map(|path| document::path(&path, &waiting)),
        Some(Listed::Waiting(path)) => Some(PathDocument::waiting(path)),
        None => None,
    };
    document
        .map(Json)
        .ok_or((StatusCode::NOT_FOUND, "this path is not watched\n"))
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
    /// Of those that are kept at most so many, the last ones.
    last: Option<usize>,
    /// RFC 3339: of those that are kept, none of before.
    since: Option<String>,
}

/// Server-sent events: those kept, then with `?follow=true` those to come. One named `lost` says
/// how many are missing in its place.
async fn events(
    State(control): State<Control>,
    Query(query): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, (StatusCode, String)> {
    let since = query.since.as_deref().map(str::parse::<Timestamp>);
    let since = since.transpose().map_err(|_| {
        let problem = "since: expected a time like 2026-11-22T14:00:00Z\n";
        (StatusCode::BAD_REQUEST, problem.to_owned())
    })?;
    let (mut past, live) = control.history.follow();
    if let Some(since) = since {
        past.retain(|told| !told.is_before(since));
    }
    if let Some(last) = query.last {
        past.drain(..past.len().saturating_sub(last));
    }
    let feed = Feed {
        past,
        live: query.follow.then_some(live),
    };
    let events = stream::unfold(feed, async |mut feed| Some((Ok(feed.next().await?), feed)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive")))
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
