//! Whether one path answers, for `GET /livez`. See `probes.rs`.

use std::time::{Duration, Instant};

use pathpulse::{Counts, Monitor, PathId, PathStatus, State, VerdictKind};

/// Limits of the pause between two polls of the status; the pause is an eighth of the time that the
/// request has waited.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// What is known about a path now.
#[derive(Debug, PartialEq)]
pub(super) enum Liveness {
    Alive(String),
    Stalled(String),
    /// Not known yet; poll again within this time.
    Undecided(Duration),
}

/// Waits until the path has answered, or has not for `max_stall`. `None` if it is not watched.
pub(super) async fn probe(monitor: &Monitor, id: PathId, max_stall: Duration) -> Option<Liveness> {
    let begin = Instant::now();
    let before = monitor.path(id)?;
    monitor.check_now(id);
    loop {
        let waited = begin.elapsed();
        let left = match judge(&before, &monitor.path(id)?, waited, max_stall) {
            Liveness::Undecided(left) => left,
            decided => return Some(decided),
        };
        let pause = (waited / 8).clamp(PAUSE.0, PAUSE.1);
        tokio::time::sleep(pause.min(left)).await;
    }
}

/// Decides by the status when the request came and the status now, after it has `waited`.
fn judge(
    before: &PathStatus,
    path: &PathStatus,
    waited: Duration,
    max_stall: Duration,
) -> Liveness {
    let more = |count: fn(&Counts) -> u64| count(&path.checks) > count(&before.checks);
    if more(good) {
        return Liveness::Alive("answers".to_owned());
    }
    if path.state == State::Paused {
        return Liveness::Alive("is paused: it is not checked".to_owned());
    }
    if path.state == State::Standby {
        return Liveness::Stalled("is standby: it serves no reads".to_owned());
    }
    if path.overdue {
        return judge_overdue(path, waited, max_stall);
    }
    let (state, cause) = (path.state, path.cause.name());
    // A path that is down is alive only if a check shows it.
    let no_verdict = path.in_flight.is_none() && path.unanswered.is_none() && waited >= max_stall;
    if state != State::Down && (more(unknown) || no_verdict) {
        return Liveness::Alive(format!("was {state}, and can't be checked now"));
    }
    // The time that the path was unanswered before this request counts only if the check of this
    // request can't change it: its read is stuck, or its verdict was bad. Otherwise the check gets
    // its time, since a path that failed may have recovered.
    let unanswered = path.unanswered.unwrap_or(Duration::ZERO);
    let silence = if path.stuck.is_some() || more(Counts::total) {
        unanswered
    } else {
        path.in_flight.unwrap_or(waited)
    };
    if silence < max_stall {
        return Liveness::Undecided(max_stall - silence);
    }
    Liveness::Stalled(format!(
        "stalls: no good answer for {} ms, more than {} ms; {state} ({cause})",
        unanswered.max(silence).as_millis(),
        max_stall.as_millis(),
    ))
}

/// An overdue path is alive only if the check of this request shows it.
fn judge_overdue(path: &PathStatus, waited: Duration, max_stall: Duration) -> Liveness {
    if waited < max_stall {
        return Liveness::Undecided(max_stall - waited);
    }
    let (state, cause) = (path.state, path.cause.name());
    let known = path.verdict_age.map_or_else(
        || "it was never checked".to_owned(),
        |age| format!("{state} ({cause}) was known {} ms ago", age.as_millis()),
    );
    Liveness::Stalled(format!("is overdue: {known}, and nothing since"))
}

/// The number of verdicts that show that the device answers.
fn good(checks: &Counts) -> u64 {
    checks.of(VerdictKind::Good) + checks.of(VerdictKind::Busy)
}

fn unknown(checks: &Counts) -> u64 {
    checks.of(VerdictKind::Unknown)
}
