//! What the daemon says, as JSON documents. Names of fields are a promise: they stay. Names of paths are
//! text as [`display_name`] makes it; `parse_name` brings their bytes back.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pathpulse::{
    Counts, DeviceInfo, Event, Monitor, PathStatus, State, VerdictKind, display_name, parse_name,
};
use serde::{Deserialize, Serialize};

use crate::daemon::http::peers::ClientsDocument;
use crate::daemon::process::HeldProcessDocument;
use crate::daemon::watchlist::WaitingPath;
use crate::human;

/// `GET /v1/status`: the daemon and all of its paths.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusDocument {
    pub(crate) version: String,
    pub(crate) backend: String,
    pub(crate) workers: usize,
    pub(crate) uptime_s: f64,
    pub(crate) clients: ClientsDocument,
    /// Dead daemons of this socket that the kernel holds, because devices owe them a read.
    #[serde(default)]
    pub(crate) held_processes: Vec<HeldProcessDocument>,
    pub(crate) paths: Vec<PathDocument>,
}

/// One path within `GET /v1/status` and `GET /v1/paths`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PathDocument {
    pub(crate) path: String,
    /// Other names of its device that are on the list.
    #[serde(default)]
    pub(crate) also: Vec<String>,
    /// `null` for a path that is not open.
    pub(crate) device: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) state: String,
    pub(crate) cause: String,
    pub(crate) errno: Option<String>,
    /// What there is to say besides: why a path is not open, where its name leads by now, or why its
    /// last check said nothing.
    pub(crate) message: Option<String>,
    pub(crate) since: String,
    /// When a check last said something about the device; `null` if none did yet.
    pub(crate) checked_at: Option<String>,
    /// How long ago that was, in milliseconds.
    pub(crate) verdict_age_ms: Option<u64>,
    /// Its verdict is late: the state is what was known then.
    pub(crate) overdue: bool,
    pub(crate) latency_us: Option<LatencyDocument>,
    pub(crate) nowait: Option<bool>,
    /// `shared` or `thread`; `null` for a path that is not open.
    pub(crate) submission: Option<String>,
    pub(crate) stuck_ms: Option<u64>,
    pub(crate) checks: ChecksDocument,
    #[serde(flatten)]
    pub(crate) details: DetailsDocument,
}

/// What the device of a path is called and where it is attached. All is `null` or empty for a path that is not open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DetailsDocument {
    /// The nodes and links in /dev that udev made for the device, the kernel's own name first.
    pub(crate) names: Vec<String>,
    pub(crate) hctl: Option<String>,
    /// The name in device-mapper: its own, or that of the multipath map above it.
    pub(crate) map: Option<String>,
    pub(crate) wwid: Option<String>,
    pub(crate) vendor: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) transport: Option<String>,
    pub(crate) topology: TopologyDocument,
}

/// What is between a device and the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TopologyDocument {
    pub(crate) adapter: Option<String>,
    pub(crate) adapter_port: Option<String>,
    pub(crate) target_port: Option<String>,
    pub(crate) controller: Option<String>,
    pub(crate) session: Option<String>,
}

/// Latencies of good checks in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LatencyDocument {
    pub(crate) last: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

/// Verdicts by kind.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ChecksDocument {
    pub(crate) total: u64,
    pub(crate) good: u64,
    pub(crate) busy: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) saturated: u64,
    pub(crate) short_read: u64,
    pub(crate) offline: u64,
    pub(crate) standby: u64,
    pub(crate) unknown: u64,
}

/// One event of `GET /v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventDocument {
    pub(crate) time: String,
    pub(crate) path: String,
    pub(crate) device: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cause: String,
    pub(crate) errno: Option<String>,
    pub(crate) detail: String,
}

impl StatusDocument {
    /// How all is now.
    pub(crate) fn new(monitor: &Monitor, waiting: &[WaitingPath]) -> StatusDocument {
        let uptime_ms = monitor.uptime().as_millis();
        StatusDocument {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: monitor.backend().kind.to_string(),
            workers: monitor.config().workers,
            uptime_s: uptime_ms as f64 / 1e3,
            clients: ClientsDocument::default(),
            held_processes: Vec::new(),
            paths: paths(monitor, waiting),
        }
    }
}

/// How all paths are now; those that are not open come last. A name of a device that is watched by
/// another one stands beside that.
pub(crate) fn paths(monitor: &Monitor, waiting: &[WaitingPath]) -> Vec<PathDocument> {
    let mut places = HashMap::new();
    let mut all: Vec<PathDocument> = Vec::new();
    for (place, (_, path)) in monitor.status().iter().enumerate() {
        places.insert(path.path.name().to_owned(), place);
        all.push(PathDocument::new(path));
    }
    for path in waiting {
        let first = path.same_as.as_ref().and_then(|first| places.get(first));
        match first {
            Some(first) => all[*first].also.push(display_name(&path.name).to_string()),
            None => all.push(PathDocument::waiting(path)),
        }
    }
    all
}

/// How one path is now.
pub(crate) fn path(path: &PathStatus, waiting: &[WaitingPath]) -> PathDocument {
    let others = waiting
        .iter()
        .filter(|other| other.same_as.as_deref() == Some(path.path.name()));
    PathDocument {
        also: others
            .map(|other| display_name(&other.name).to_string())
            .collect(),
        ..PathDocument::new(path)
    }
}

impl PathDocument {
    fn new(path: &PathStatus) -> PathDocument {
        PathDocument {
            path: display_name(path.path.name()).to_string(),
            also: Vec::new(),
            device: Some(path.path.device().to_string()),
            group: path.path.group().map(str::to_owned),
            state: path.state.name().to_owned(),
            cause: path.cause.name().to_owned(),
            errno: path.cause.errno().map(|errno| errno.to_string()),
            message: path
                .path
                .elsewhere()
                .map(str::to_owned)
                .or_else(|| path.unknown.map(|why| format!("not known now: {why}"))),
            since: whole_seconds(path.since),
            checked_at: path
                .checked_at
                .map(|time| format!("{:.3}", timestamp(time))),
            verdict_age_ms: path.verdict_age.map(milliseconds),
            overdue: path.overdue,
            latency_us: path.latency_us.map(|latency| LatencyDocument {
                last: latency.last,
                p50: latency.p50,
                p99: latency.p99,
                max: latency.max,
            }),
            nowait: path.nowait,
            submission: Some(human::submission(path.isolated).to_owned()),
            stuck_ms: path.stuck.map(milliseconds),
            checks: ChecksDocument::new(&path.checks),
            details: DetailsDocument::new(path.path.details()),
        }
    }
}

impl PathDocument {
    /// A path that is not open.
    pub(crate) fn waiting(path: &WaitingPath) -> PathDocument {
        PathDocument {
            path: display_name(&path.name).to_string(),
            also: Vec::new(),
            device: None,
            group: path.group.clone(),
            state: State::Pending.name().to_owned(),
            cause: path.cause.to_owned(),
            errno: None,
            message: Some(path.message.clone()),
            since: whole_seconds(path.since),
            checked_at: None,
            verdict_age_ms: None,
            overdue: false,
            latency_us: None,
            nowait: None,
            submission: None,
            stuck_ms: None,
            checks: ChecksDocument::new(&Counts::default()),
            details: DetailsDocument::default(),
        }
    }
}

impl DetailsDocument {
    fn new(info: &DeviceInfo) -> DetailsDocument {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let topology = info.topology();
        DetailsDocument {
            names: { info.names() }
                .map(|name| display_name(&name).to_string())
                .collect(),
            hctl: text(info.hctl()),
            map: text(info.map()),
            wwid: text(info.wwid()),
            vendor: text(info.vendor()),
            model: text(info.model()),
            size_bytes: info.size_bytes(),
            transport: text(info.transport()),
            topology: TopologyDocument {
                adapter: topology.adapter,
                adapter_port: topology.adapter_port,
                target_port: topology.target_port,
                controller: topology.controller,
                session: topology.session,
            },
        }
    }
}

impl ChecksDocument {
    fn new(counts: &Counts) -> ChecksDocument {
        ChecksDocument {
            total: counts.total(),
            good: counts.of(VerdictKind::Good),
            busy: counts.of(VerdictKind::Busy),
            failed: counts.of(VerdictKind::Failed),
            timed_out: counts.of(VerdictKind::TimedOut),
            saturated: counts.of(VerdictKind::Saturated),
            short_read: counts.of(VerdictKind::ShortRead),
            offline: counts.of(VerdictKind::Offline),
            standby: counts.of(VerdictKind::Standby),
            unknown: counts.of(VerdictKind::Unknown),
        }
    }
}

impl EventDocument {
    /// The name of the path, byte for byte.
    pub(crate) fn name(&self) -> PathBuf {
        // An old file of events may have a name that was not escaped.
        parse_name(&self.path).unwrap_or_else(|| PathBuf::from(&self.path))
    }

    /// A path is watched no longer.
    pub(crate) fn removed(last: &PathStatus, cause: &str, detail: &str) -> EventDocument {
        EventDocument {
            time: format!("{:.6}", timestamp(SystemTime::now())),
            path: display_name(last.path.name()).to_string(),
            device: last.path.device().to_string(),
            from: last.state.name().to_owned(),
            to: "removed".to_owned(),
            cause: cause.to_owned(),
            errno: None,
            detail: detail.to_owned(),
        }
    }

    pub(crate) fn new(event: &Event) -> EventDocument {
        EventDocument {
            time: format!("{:.6}", timestamp(event.time)),
            path: display_name(event.path.name()).to_string(),
            device: event.path.device().to_string(),
            from: event.from.name().to_owned(),
            to: event.to.name().to_owned(),
            cause: event.cause.name().to_owned(),
            errno: event.cause.errno().map(|errno| errno.to_string()),
            detail: event.detail.clone(),
        }
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC, as all times in documents.
fn whole_seconds(time: SystemTime) -> String {
    format!("{:.0}", timestamp(time))
}

/// A clock that is set to a year that has no four digits counts as 1970.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_795_442_400, 123_456_789);
        assert_eq!(whole_seconds(time), "2026-11-23T14:00:00Z");
        assert_eq!(
            format!("{:.6}", timestamp(time)),
            "2026-11-23T14:00:00.123456Z"
        );
    }
}
