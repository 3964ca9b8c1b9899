//! A liveness probe for whoever depends on a storage: `GET /livez?path=...&max_stall=...`.
//!
//! 200 while that storage answers, 503 once a read has waited for a good answer for `max_stall`.
//! The pace of checks is not what decides, since it may be slower than `max_stall`: each request asks
//! for a check at once (the engine never has two at a time), and waits for its verdict, without
//! holding up anyone else. What was seen unanswered before counts from then.
//!
//! No evidence is no stall. A path that a person paused, or one that can't be checked for reasons of
//! our own, gets 200 and the reason: whoever asks may end a database because of a 503.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use pathpulse::{Counts, Monitor, PathId, PathStatus, State, VerdictKind};
use serde::Deserialize;

/// Requests that follow an answer so soon are told the same.
const FRESH: Duration = Duration::from_millis(20);
/// A request holds its connection no longer.
const MAX_STALL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60);
/// How long a request looks away at first, and at most, while it waits for a verdict.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// Paths whose last requests are remembered; when there are more, all are forgotten.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LivezQuery {
    path: PathBuf,
    max_stall: Option<String>,
}

/// A status and one line of text.
pub(crate) type Answer = (StatusCode, String);

/// Answers, and remembers what was asked and not answered.
#[derive(Clone)]
pub(crate) struct Probes {
    monitor: Arc<Monitor>,
    memory: Arc<Mutex<HashMap<PathId, Memory>>>,
}

/// What earlier requests saw of a path.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Good verdicts when it was last seen.
    good: u64,
    /// When a request saw it answer, if that was the last it saw.
    answered: Option<Instant>,
    /// Since when it has owed a request an answer, and how many verdicts there were then.
    owes: Option<(Instant, u64)>,
}

impl Probes {
    pub(crate) fn new(monitor: Arc<Monitor>) -> Probes {
        Probes {
            monitor,
            memory: Arc::default(),
        }
    }

    /// Waits until the path has answered, or has not for `max_stall`; `None` when it is not watched.
    async fn ask(&self, id: PathId, max_stall: Duration) -> Option<Word> {
        let begin = Instant::now();
        let before = self.monitor.path(id)?;
        let memory = self.arrive(id, &before.checks, begin);
        if memory.answered.is_some() {
            return Some(Word::Alive("answers".to_owned()));
        }
        self.monitor.check_now(id);
        let mut pause = PAUSE.0;
        loop {
            let path = self.monitor.path(id)?;
            let request = Request {
                owes: memory.owes.unwrap_or((begin, before.checks.total())),
                waited: begin.elapsed(),
                max_stall,
                timeout: self.monitor.config().settings.timeout,
            };
            match request.judge(&before, &path) {
                Word::Wait(left) => {
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                word => {
                    self.leave(id, &path.checks, &before.checks);
                    return Some(word);
                }
            }
        }
    }

    /// A request came: what is known from others?
    fn arrive(&self, id: PathId, checks: &Counts, now: Instant) -> Memory {
        let mut all = self.lock();
        if all.len() >= REMEMBERED && !all.contains_key(&id) {
            all.clear();
        }
        let empty = Memory {
            good: good(checks),
            answered: None,
            owes: None,
        };
        let memory = all.entry(id).or_insert(empty);
        let fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
        if !memory.answered.is_some_and(fresh) {
            if memory.good != empty.good || memory.answered.is_some() {
                *memory = empty;
            }
            memory.owes.get_or_insert((now, checks.total()));
        }
        *memory
    }

    /// A request goes: what did it see?
    fn leave(&self, id: PathId, now: &Counts, before: &Counts) {
        let mut all = self.lock();
        if good(now) > good(before) {
            let answered = Memory {
                good: good(now),
                answered: Some(Instant::now()),
                owes: None,
            };
            all.insert(id, answered);
        } else if unknown(now) > unknown(before) {
            all.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathId, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be said to a request now.
#[derive(Debug, PartialEq)]
enum Word {
    Alive(String),
    Stalls(String),
    /// Nothing yet; look again within so long.
    Wait(Duration),
}

/// A request, at one moment.
struct Request {
    /// Since when the path has owed an answer, and how many verdicts there were then.
    owes: (Instant, u64),
    waited: Duration,
    max_stall: Duration,
    timeout: Duration,
}

impl Request {
    fn judge(&self, before: &PathStatus, path: &PathStatus) -> Word {
        if good(&path.checks) > good(&before.checks) {
            return Word::Alive("answers".to_owned());
        }
        if path.state == State::Paused {
            return Word::Alive("is paused: it is not checked".to_owned());
        }
        let is_down = matches!(path.state, State::Down | State::Standby);
        if unknown(&path.checks) > unknown(&before.checks) && !is_down {
            let state = path.state;
            return Word::Alive(format!("was {state}, and can't be checked now"));
        }
        let owed = self.owed(path, is_down);
        // An earlier debt counts at once where nothing new is to be expected of this request's check:
        // its verdict was bad, or the read that the debt is about is still the one in flight.
        let judged = path.checks.total();
        let same = path.stuck.is_some() || judged > before.checks.total() || judged == self.owes.1;
        let silence = if same { owed } else { self.waited };
        if silence < self.max_stall {
            return Word::Wait(self.max_stall - silence);
        }
        Word::Stalls(format!(
            "stalls: no good answer for {} ms, more than {} ms; {} ({})",
            owed.as_millis(),
            self.max_stall.as_millis(),
            path.state,
            path.cause.name()
        ))
    }

    /// How long the path has owed an answer, as far as is known.
    fn owed(&self, path: &PathStatus, is_down: bool) -> Duration {
        let stuck = path
            .stuck
            .map_or(Duration::ZERO, |stuck| stuck + self.timeout);
        let in_state = path.since.elapsed().unwrap_or(Duration::ZERO);
        let down = if is_down { in_state } else { Duration::ZERO };
        let mut asked = self.owes.0.elapsed();
        if path.state == State::Pending {
            // It was resumed, or added, after that.
            asked = asked.min(in_state.max(self.waited));
        }
        asked.max(stuck).max(down)
    }
}

/// Verdicts that show that the device answers.
fn good(checks: &Counts) -> u64 {
    checks.of(VerdictKind::Good) + checks.of(VerdictKind::Busy)
}

fn unknown(checks: &Counts) -> u64 {
    checks.of(VerdictKind::Unknown)
}

/// `GET /livez`.
pub(crate) async fn answer(
    Extract(probes): Extract<Probes>,
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
        None => probes.monitor.config().settings.timeout,
        Some(text) => match limit(text) {
            Ok(limit) => limit,
            Err(why) => return bad(format!("max_stall: {why}")),
        },
    };
    let name = query.path.display();
    let word = match probes.monitor.find(&query.path) {
        Some(id) => probes.ask(id, max_stall).await,
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
