//! Two probes. `GET /healthz` is about the daemon: 200 while each worker is responsive, that is:
//! awake when it is due, and done with a pass of its loop in time. Devices have no influence.
//!
//! `GET /livez?path=...&max_stall=...` is for programs that depend on a storage: 200 while the
//! storage answers, 503 once a read has waited for a good answer for `max_stall`. The interval of
//! checks does not decide that, since it may be longer than `max_stall`: each request asks for a
//! check at once (the engine never runs two at a time) and waits for its verdict, without delaying
//! other requests. A read that was unanswered before the request counts from its own start.
//!
//! The name may be another name of a watched path, or that of a file or folder: then the probe is
//! about the paths to the devices of its file system. A path that is not open yet gets 503 with the
//! reason.
//!
//! A path whose verdict is overdue ([`pathpulse::PathStatus::overdue`]) gets 503 with the reason,
//! too: whether it answers is not known, and has not been for a long time.
//!
//! A path that is down gets 200 only if the device answers the check of the request.
//!
//! In all other cases, no evidence is no stall. A path that a person paused, or one that can't be
//! checked for reasons of our own, gets 200 with the reason: a 503 may make the caller end a
//! database.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use futures_util::future::join_all;
use pathpulse::{Monitor, PathId, display_name};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::liveness::{Liveness, probe};
use super::state::HttpState;
use crate::api::candidates;
use crate::daemon::process::check_workers;
use crate::daemon::watchlist::{self, ListedPath};
use crate::human::printable;
use crate::lookup::{self, LookupError};

/// A request holds its connection no longer than the upper limit.
const MAX_STALL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LivezQuery {
    path: String,
    max_stall: Option<String>,
}

/// A status and one line of text.
pub(crate) type ProbeAnswer = (StatusCode, String);

/// `GET /healthz`.
pub(crate) async fn health(Extract(monitor): Extract<Arc<Monitor>>) -> ProbeAnswer {
    match check_workers(&monitor) {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// `GET /livez`.
pub(crate) async fn answer(
    Extract(state): Extract<HttpState>,
    query: Result<Query<LivezQuery>, QueryRejection>,
) -> ProbeAnswer {
    let bad = |what: String| (StatusCode::BAD_REQUEST, format!("{what}\n"));
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => {
            let why = rejection.body_text();
            return bad(format!("{why}; ask /livez?path=/dev/sda&max_stall=500ms"));
        }
    };
    let max_stall = match &query.max_stall {
        None => state.monitor.config().settings.timeout,
        Some(text) => match parse_limit(text) {
            Ok(limit) => limit,
            Err(why) => return bad(format!("max_stall: {why}")),
        },
    };
    let name = printable(&query.path);
    match liveness(&state, &query.path, max_stall).await {
        Ok(what) => (StatusCode::OK, format!("{name} {what}\n")),
        Err((status, what)) => (status, format!("{name} {what}\n")),
    }
}

/// What the answer says about a name: 200 with `Ok`, the status of the error otherwise.
async fn liveness(
    state: &HttpState,
    text: &str,
    max_stall: Duration,
) -> Result<String, (StatusCode, String)> {
    let unavailable = |what: String| (StatusCode::SERVICE_UNAVAILABLE, what);
    let unopened = state.watchlist.unopened();
    let listed = watchlist::find(&state.monitor, &unopened, text);
    let not_open = match &listed {
        Some(ListedPath::Unopened(path)) => Some(path.message.clone()),
        _ => None,
    };
    let paths = match listed {
        Some(ListedPath::Open(id)) => vec![id],
        _ => paths_below(&state.monitor, text, max_stall)
            .await
            .map_err(unavailable)?,
    };
    let is_its_name = paths.len() == 1 && state.monitor.find(Path::new(text)).is_some();
    match probe_all(&state.monitor, &paths, max_stall, is_its_name).await {
        Some(Liveness::Alive(what)) => Ok(what),
        Some(Liveness::Stalled(what)) => Err(unavailable(what)),
        Some(Liveness::Undecided(_)) | None => Err(match not_open {
            Some(why) => unavailable(format!("is not open: {}", printable(&why))),
            None => (StatusCode::NOT_FOUND, "is not watched".to_owned()),
        }),
    }
}

/// The watched paths that an unknown name leads to: the one to the same device, or those to the
/// devices of its file system.
///
/// # Errors
/// The name could not be looked up in time: its own file system does not answer.
async fn paths_below(
    monitor: &Arc<Monitor>,
    text: &str,
    max_stall: Duration,
) -> Result<Vec<PathId>, String> {
    for name in candidates(text).filter(|name| name.is_absolute()) {
        let looked = spawn_blocking(move || lookup::look_up_in_subprocess(&name, max_stall)).await;
        match looked {
            Ok(Ok(found)) => {
                let known = |device| monitor.find_device(device);
                return Ok(found.nearest(&known));
            }
            Ok(Err(LookupError::Failed(_))) => {}
            Ok(Err(LookupError::TimedOut)) => {
                let ms = max_stall.as_millis();
                return Err(format!(
                    "stalls: its name could not be looked up within {ms} ms"
                ));
            }
            Ok(Err(LookupError::Busy)) | Err(_) => {
                let what =
                    "could not be looked up: too many names hang; ask by the name that is watched";
                return Err(what.to_owned());
            }
        }
    }
    Ok(Vec::new())
}

/// Probes paths. A storage answers if one of its paths does; all storages have to answer. `None` if
/// none of the paths is watched. The text names the path unless `is_its_name`: the request named
/// it.
async fn probe_all(
    monitor: &Monitor,
    paths: &[PathId],
    max_stall: Duration,
    is_its_name: bool,
) -> Option<Liveness> {
    let results = join_all(paths.iter().map(async |id| {
        let info = monitor.info(*id)?;
        let name = display_name(info.name());
        let result = match probe(monitor, *id, max_stall).await? {
            result if is_its_name => result,
            Liveness::Alive(what) => Liveness::Alive(format!("is {name}, which {what}")),
            Liveness::Stalled(what) => Liveness::Stalled(format!("is {name}, which {what}")),
            result @ Liveness::Undecided(_) => result,
        };
        let group = info.group().map_or_else(|| name.to_string(), str::to_owned);
        Some((group, result))
    }));
    let mut storages = BTreeMap::new();
    for (group, result) in results.await.into_iter().flatten() {
        let is_better = |known: &Liveness| {
            matches!((known, &result), (Liveness::Stalled(_), Liveness::Alive(_)))
        };
        if storages.get(&group).is_none_or(is_better) {
            storages.insert(group, result);
        }
    }
    let stalled_first = |result: &Liveness| !matches!(result, Liveness::Stalled(_));
    storages.into_values().min_by_key(stalled_first)
}

fn parse_limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; durations are like 500ms, 2s"))?;
    if MAX_STALL.contains(&limit) {
        Ok(limit)
    } else {
        Err("expected 1ms to 60s".to_owned())
    }
}
