//! One path within `GET /v1/status` and `GET /v1/paths`.
//!
//! Names of fields never change. A name of a path is text as [`display_name`] makes it;
//! `parse_name` restores its bytes.

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use pathpulse::{Counts, DeviceInfo, PathStatus, VerdictKind, display_name};
use serde::{Deserialize, Serialize};

use super::state::{ErrnoName, PathCause, PathState, Submission};
use super::time::{milliseconds, timestamp, whole_seconds};

/// One path within `GET /v1/status` and `GET /v1/paths`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PathDocument {
    pub(crate) path: String,
    /// Other names of its device that are on the watchlist.
    #[serde(default)]
    pub(crate) also: Vec<String>,
    /// `null` for a path that is not open.
    pub(crate) device: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) state: PathState,
    pub(crate) cause: PathCause,
    pub(crate) errno: Option<ErrnoName>,
    /// A remark: why the path is not open, where its name leads now, or why its last check was
    /// inconclusive.
    pub(crate) message: Option<String>,
    pub(crate) since: String,
    /// When a check was last conclusive; `null` before the first such check.
    pub(crate) checked_at: Option<String>,
    /// The age of that verdict in milliseconds.
    pub(crate) verdict_age_ms: Option<u64>,
    /// The next verdict is late: `state` is the last known state.
    pub(crate) overdue: bool,
    pub(crate) latency_us: Option<LatencyDocument>,
    pub(crate) nowait: Option<bool>,
    /// `null` for a path that is not open.
    pub(crate) submission: Option<Submission>,
    pub(crate) stuck_ms: Option<u64>,
    pub(crate) checks: ChecksDocument,
    #[serde(flatten)]
    pub(crate) details: DetailsDocument,
}

/// The names of a path's device and where it is attached. All fields are `null` or empty for a path
/// that is not open.
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

/// The hardware between the host and the device.
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

/// A path on the watchlist that is not open, and so is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnopenedPath {
    pub(crate) name: PathBuf,
    pub(crate) group: Option<String>,
    pub(crate) since: SystemTime,
    /// The same time on the monotonic clock.
    pub(crate) begun: Instant,
    /// `not_open`, or `device_gone` if the path was open before.
    pub(crate) cause: PathCause,
    /// Why it is not open.
    pub(crate) message: String,
    /// The open path that leads to the same device.
    pub(crate) same_as: Option<PathBuf>,
}

impl PathDocument {
    /// An open path.
    pub(super) fn new(path: &PathStatus) -> PathDocument {
        PathDocument {
            path: display_name(path.path.name()).to_string(),
            also: Vec::new(),
            device: Some(path.path.device().to_string()),
            group: path.path.group().map(str::to_owned),
            state: path.state.into(),
            cause: path.cause.into(),
            errno: path.cause.errno().map(ErrnoName::from),
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
            submission: Some(match path.isolated {
                true => Submission::Thread,
                false => Submission::Shared,
            }),
            stuck_ms: path.stuck.map(milliseconds),
            checks: ChecksDocument::new(&path.checks),
            details: DetailsDocument::new(path.path.details()),
        }
    }

    /// A path that is not open.
    pub(crate) fn unopened(path: &UnopenedPath) -> PathDocument {
        PathDocument {
            path: display_name(&path.name).to_string(),
            also: Vec::new(),
            device: None,
            group: path.group.clone(),
            state: PathState::Pending,
            cause: path.cause.clone(),
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
