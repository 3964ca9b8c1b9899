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
//! No evidence is no stall. A path that a person paused, or one that can't be checked for reasons of
//! our own, gets 200 and the reason: whoever asks may end a database because of a 503.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use pathpulse::{Counts, Monitor, PathId, PathStatus, State, VerdictKind};
use serde::Deserialize;

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
    path: PathBuf,
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
    Extract(monitor): Extract<Arc<Monitor>>,
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
        None => monitor.config().settings.timeout,
        Some(text) => match limit(text) {
            Ok(limit) => limit,
            Err(why) => return bad(format!("max_stall: {why}")),
        },
    };
    let name = query.path.display();
    let word = match monitor.find(&query.path) {
        Some(id) => ask(&monitor, id, max_stall).await,
        None => None,
    };
    match word {
        Some(Word::Alive(what)) => (StatusCode::OK, format!("{name} {what}\n")),
        Some(Word::Stalls(what)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{name} {what}\n")),
        Some(Word::Wait(_)) | None => (StatusCode::NOT_FOUND, format!("{name} is not watched\n")),
    }
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
