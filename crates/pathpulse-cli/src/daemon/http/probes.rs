//! Two probes. `GET /healthz` is about the daemon: 200 while each worker gets on, that is: is awake when
//! it means to be, and done with a turn within [`OVERDUE_MAX`]. What devices do is no part of it.
//!
//! `GET /livez?path=...&max_stall=...` is for whoever depends on a storage:
//!
//! 200 while that storage answers, 503 once a read has waited for a good answer for `max_stall`.
//! The pace of checks is not what decides, since it may be slower than `max_stall`: each request asks
//! for a check at once (the engine never has two at a time), and waits for its verdict, without
//! holding up anyone else. What a path has owed for longer counts from then.
//!
//! The name may be another one of a watched path, or that of a file or a folder: then it is about the paths
//! to the devices that it lies on. A path that waits to be opened gets 503, with the reason.
//!
//! A path whose verdict is overdue ([`PathStatus::overdue`]) is 503, too, with the reason: nobody knows
//! that it answers, and nobody has for a long time.
//!
//! Else no evidence is no stall. A path that a person paused, or one that can't be checked for reasons of
//! our own, gets 200 and the reason: whoever asks may end a database because of a 503.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use futures_util::future::join_all;
use pathpulse::{Counts, Monitor, PathId, PathStatus, State, VerdictKind, display_name};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::routes::Control;
use crate::api::name::{self as names, Listed};
use crate::human::printable;
use crate::lookup::{self, Unknown};

/// A worker that is late by more does not get on. Its turns take milliseconds.
const OVERDUE_MAX: Duration = Duration::from_secs(2);
/// A request holds its connection no longer.
const MAX_STALL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60);
/// How long a request looks away at least, and at most, while it waits for a verdict: an eighth of the
/// time that it has waited.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LivezQuery {
    path: String,
    max_stall: Option<String>,
}

/// A status and one line of text.
pub(crate) type Answer = (StatusCode, String);

/// What can be said to a request now.
#[derive(Debug, PartialEq)]
enum Word {
    Alive(String),
    Stalls(String),
    /// Nothing yet; look again within so long.
    Wait(Duration),
}

/// Waits until the path has answered, or has not for `max_stall`; `None` when it is not watched.
async fn ask(monitor: &Monitor, id: PathId, max_stall: Duration) -> Option<Word> {
    let begin = Instant::now();
    let before = monitor.path(id)?;
    monitor.check_now(id);
    loop {
        let waited = begin.elapsed();
        let left = match judge(&before, &monitor.path(id)?, waited, max_stall) {
            Word::Wait(left) => left,
            word => return Some(word),
        };
        let pause = (waited / 8).clamp(PAUSE.0, PAUSE.1);
        tokio::time::sleep(pause.min(left)).await;
    }
}

/// How the path was when the request came, and how it is now, after it has `waited`.
fn judge(before: &PathStatus, path: &PathStatus, waited: Duration, max_stall: Duration) -> Word {
    let more = |count: fn(&Counts) -> u64| count(&path.checks) > count(&before.checks);
    if more(good) {
        return Word::Alive("answers".to_owned());
    }
    if path.state == State::Paused {
        return Word::Alive("is paused: it is not checked".to_owned());
    }
    if path.state == State::Standby {
        return Word::Stalls("is standby: it serves no reads".to_owned());
    }
    let (state, cause) = (path.state, path.cause.name());
    if path.overdue {
        // The check that was asked for has its time. Without it there is no word that it is alive.
        if waited < max_stall {
            return Word::Wait(max_stall - waited);
        }
        let known = path.verdict_age.map_or_else(
            || "it was never checked".to_owned(),
            |age| format!("{state} ({cause}) was known {} ms ago", age.as_millis()),
        );
        return Word::Stalls(format!("is overdue: {known}, and nothing since"));
    }
    let untold = path.in_flight.is_none() && path.unanswered.is_none() && waited >= max_stall;
    if (more(unknown) && state != State::Down) || untold {
        return Word::Alive(format!("was {state}, and can't be checked now"));
    }
    // What was owed before this request counts where its own check has nothing to add: a read is stuck,
    // or the verdict was bad. Until then the check has its time: a path that failed may be well again.
    let owed = path.unanswered.unwrap_or(Duration::ZERO);
    let silence = if path.stuck.is_some() || more(Counts::total) {
        owed
    } else {
        path.in_flight.unwrap_or(waited)
    };
    if silence < max_stall {
        return Word::Wait(max_stall - silence);
    }
    Word::Stalls(format!(
        "stalls: no good answer for {} ms, more than {} ms; {state} ({cause})",
        owed.max(silence).as_millis(),
        max_stall.as_millis(),
    ))
}

/// Verdicts that show that the device answers.
fn good(checks: &Counts) -> u64 {
    checks.of(VerdictKind::Good) + checks.of(VerdictKind::Busy)
}

fn unknown(checks: &Counts) -> u64 {
    checks.of(VerdictKind::Unknown)
}

/// What keeps the workers from getting on, in one line.
///
/// # Errors
/// Which worker, and how it is.
pub(crate) fn check_workers(monitor: &Monitor) -> Result<(), String> {
    for (number, worker) in monitor.workers().iter().enumerate() {
        if worker.ended {
            return Err(format!("worker {number} has ended; the log may say why"));
        }
        if worker.overdue > OVERDUE_MAX {
            let late_ms = worker.overdue.as_millis();
            return Err(format!("worker {number} has not got on for {late_ms} ms"));
        }
    }
    Ok(())
}

/// `GET /healthz`.
pub(crate) async fn health(Extract(monitor): Extract<Arc<Monitor>>) -> Answer {
    match check_workers(&monitor) {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// `GET /livez`.
pub(crate) async fn answer(
    Extract(control): Extract<Control>,
    query: Result<Query<LivezQuery>, QueryRejection>,
) -> Answer {
    let bad = |what: String| (StatusCode::BAD_REQUEST, format!("{what}\n"));
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => {
            let why = rejection.body_text();
            return bad(format!("{why}; ask /livez?path=/dev/sda&max_stall=500ms"));
        }
    };
    let max_stall = match &query.max_stall {
        None => control.monitor.config().settings.timeout,
        Some(text) => match limit(text) {
            Ok(limit) => limit,
            Err(why) => return bad(format!("max_stall: {why}")),
        },
    };
    let name = printable(&query.path);
    let waiting = control.roster.waiting();
    let (paths, waits) = match names::listed(&control.monitor, &waiting, &query.path) {
        Some(Listed::Watched(id)) => (vec![id], None),
        other => {
            let waits = other.map(|path| match path {
                Listed::Waiting(path) => path.message.clone(),
                Listed::Watched(_) => String::new(),
            });
            match paths_under(&control.monitor, &query.path, max_stall).await {
                Ok(paths) => (paths, waits),
                Err(what) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{name} {what}\n")),
            }
        }
    };
    let stands = paths.len() == 1 && control.monitor.find(Path::new(&query.path)).is_some();
    match (
        ask_all(&control.monitor, &paths, max_stall, stands).await,
        waits,
    ) {
        (Some(Word::Alive(what)), _) => (StatusCode::OK, format!("{name} {what}\n")),
        (Some(Word::Stalls(what)), _) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{name} {what}\n"))
        }
        (Some(Word::Wait(_)) | None, Some(why)) => {
            let said = format!("{name} is not open: {}\n", printable(&why));
            (StatusCode::SERVICE_UNAVAILABLE, said)
        }
        (Some(Word::Wait(_)) | None, None) => {
            (StatusCode::NOT_FOUND, format!("{name} is not watched\n"))
        }
    }
}

/// The watched paths that a name leads to which none of them has: the one that is the same device, or those
/// of the devices that it lies on.
///
/// # Errors
/// That the name could not be looked up in time: its own file system does not answer.
async fn paths_under(
    monitor: &Arc<Monitor>,
    text: &str,
    max_stall: Duration,
) -> Result<Vec<PathId>, String> {
    for name in names::meant(text).filter(|name| name.is_absolute()) {
        let looked = spawn_blocking(move || lookup::look_apart(&name, max_stall)).await;
        match looked {
            Ok(Ok(found)) => {
                let known = |device| monitor.find_device(device);
                return Ok(found.nearest(&known));
            }
            Ok(Err(Unknown::Said(_))) => {}
            Ok(Err(Unknown::Silent)) => {
                let ms = max_stall.as_millis();
                return Err(format!(
                    "stalls: its name could not be looked up within {ms} ms"
                ));
            }
            Ok(Err(Unknown::Busy)) | Err(_) => {
                let what =
                    "could not be looked up: too many names hang; ask by the name that is watched";
                return Err(what.to_owned());
            }
        }
    }
    Ok(Vec::new())
}

/// Asks all of these. Of the paths to the same storage one has to answer, of others each. `None` when none is
/// watched. What is said names the path, unless that was what was asked for.
async fn ask_all(
    monitor: &Monitor,
    paths: &[PathId],
    max_stall: Duration,
    stands: bool,
) -> Option<Word> {
    let words = join_all(paths.iter().map(async |id| {
        let info = monitor.info(*id)?;
        let name = display_name(info.name());
        let word = match ask(monitor, *id, max_stall).await? {
            word if stands => word,
            Word::Alive(what) => Word::Alive(format!("is {name}, which {what}")),
            Word::Stalls(what) => Word::Stalls(format!("is {name}, which {what}")),
            word @ Word::Wait(_) => word,
        };
        let group = info.group().map_or_else(|| name.to_string(), str::to_owned);
        Some((group, word))
    }));
    let mut storages = BTreeMap::new();
    for (group, word) in words.await.into_iter().flatten() {
        let is_better = |known: &Word| matches!((known, &word), (Word::Stalls(_), Word::Alive(_)));
        if storages.get(&group).is_none_or(is_better) {
            storages.insert(group, word);
        }
    }
    let stalls = |word: &Word| !matches!(word, Word::Stalls(_));
    storages.into_values().min_by_key(stalls)
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; durations are like 500ms, 2s"))?;
    if MAX_STALL.contains(&limit) {
        Ok(limit)
    } else {
        Err("it is from 1ms to 60s".to_owned())
    }
}
