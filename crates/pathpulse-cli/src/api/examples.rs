//! Documents for tests.

use serde_json::json;

use super::{ClientsDocument, EventDocument, PathDocument, StatusDocument};

/// A path in this state, with the usual cause.
pub(crate) fn path(name: &str, state: &str) -> PathDocument {
    let cause = match state {
        "up" => "good",
        "down" => "timed_out",
        "marginal" => "slow",
        _ => "not_checked",
    };
    let document = json!({
        "path": name, "device": "8:0", "state": state, "cause": cause, "since": "2026-11-22T14:00:00Z",
        "checked_at": "2026-11-22T14:00:01.500Z", "verdict_age_ms": 1_500, "overdue": false,
        "latency_us": {"last": 85, "p50": 90, "p99": 140, "max": 900}, "nowait": true,
        "checks": {
            "total": 10, "good": 10, "busy": 0, "failed": 0, "timed_out": 0, "saturated": 0,
            "short_read": 0, "offline": 0, "standby": 0, "unknown": 0,
        },
    });
    serde_json::from_value(document).expect("all that a path needs")
}

/// A path whose verdict is a minute late.
pub(crate) fn overdue(name: &str, state: &str) -> PathDocument {
    PathDocument {
        verdict_age_ms: Some(60_000),
        overdue: true,
        ..path(name, state)
    }
}

/// A daemon that watches these paths.
pub(crate) fn status(paths: Vec<PathDocument>) -> StatusDocument {
    let document = json!({
        "version": "0.1.0", "backend": "io_uring", "workers": 1, "uptime_s": 3_700.0, "clients": ClientsDocument::default(), "paths": [],
    });
    let mut status: StatusDocument = serde_json::from_value(document).expect("all that it needs");
    status.paths = paths;
    status
}

/// A path that went down.
pub(crate) fn event(name: &str) -> EventDocument {
    let document = json!({
        "time": "2026-11-22T14:00:00.123456Z", "path": name, "device": "8:0", "from": "up",
        "to": "down", "cause": "timed_out", "detail": "no answer within 300ms",
    });
    serde_json::from_value(document).expect("all that an event needs")
}
