//! The metrics of paths: what grows with their number.

use std::fmt;
use std::time::{Duration, SystemTime};

use pathpulse::{GroupStatus, Monitor, PathStatus, State, VerdictKind, display_name};

use super::writer::{Histogram, Sheet};
use crate::daemon::watchlist::WaitingPath;
use crate::human::printable;

/// A path, and the name that its series have.
type Named = (String, PathStatus);

/// Writes what there is to say about all paths, and each.
pub(crate) fn write(
    sheet: &mut Sheet<'_>,
    monitor: &Monitor,
    waiting: &[WaitingPath],
) -> fmt::Result {
    let all: Vec<Named> = monitor
        .status()
        .into_iter()
        .map(|(_, path)| (display_name(path.path.name()).to_string(), path))
        .collect();
    sums(sheet, &all)?;
    details(sheet, &all)?;
    states(sheet, &all)?;
    times(sheet, &all)?;
    checks(sheet, &all)?;
    latencies(sheet, &all)?;
    waits(sheet, waiting)?;
    groups(sheet, &monitor.groups())
}

fn sums(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    sheet.gauge("paths", "Paths that are watched", all.len() as u64)?;
    let help = "How long the oldest of the reads in flight has been that; 0 when none is";
    let ages = all.iter().filter_map(|(_, path)| match path.stuck {
        // No other read is made behind a stuck one, so that is what has been owed for longest.
        Some(stuck) => Some(path.unanswered.unwrap_or(stuck)),
        None => path.in_flight,
    });
    let oldest = ages.max().unwrap_or(Duration::ZERO);
    sheet.seconds("oldest_read_in_flight", help, oldest)
}

/// Of paths that are not open there is nothing else to say.
fn waits(sheet: &mut Sheet<'_>, waiting: &[WaitingPath]) -> fmt::Result {
    let help = "Paths on the list that are not open, and so not watched";
    let waiting = waiting.iter().filter(|path| path.same_as.is_none());
    let waiting: Vec<&WaitingPath> = waiting.collect();
    sheet.gauge("paths_waiting", help, waiting.len() as u64)?;
    let names: Vec<String> = waiting
        .iter()
        .map(|path| display_name(&path.name).to_string())
        .collect();
    let rows = waiting.iter().zip(&names).map(|(path, name)| {
        let group = path.group.as_deref().unwrap_or("");
        let labels = [("path", name.as_str()), ("group", group)];
        (labels, path.begun.elapsed())
    });
    let help = "How long a path has been waiting for its device";
    sheet.all_seconds("path_waiting", help, rows)
}

/// The label `device` is that of node_exporter's disks.
fn details(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    let text = |text: Option<&str>| printable(text.unwrap_or(""));
    let details = all.iter().map(|(name, path)| {
        let info = path.path.details();
        let topology = info.topology();
        let texts = [
            info.kernel_name(),
            info.map(),
            info.wwid(),
            info.hctl(),
            info.vendor(),
            info.model(),
            info.transport(),
            topology.adapter.as_deref(),
            topology.target_port.as_deref(),
        ];
        (name, texts.map(text))
    });
    let details: Vec<(&String, [String; 9])> = details.collect();
    let keys = [
        "device",
        "map",
        "wwid",
        "hctl",
        "vendor",
        "model",
        "transport",
        "adapter",
        "target_port",
    ];
    let rows = details.iter().map(|(name, texts)| {
        let labels = keys
            .iter()
            .zip(texts)
            .map(|(key, text)| (*key, text.as_str()));
        let labels: Vec<(&str, &str)> = std::iter::once(("path", name.as_str()))
            .chain(labels)
            .collect();
        (labels, 1_u64)
    });
    sheet.gauges(
        "path_info",
        "Always 1; what the device of the path is",
        rows,
    )
}

fn states(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    let rows = all.iter().flat_map(|(name, path)| {
        State::ALL.map(|state| {
            let group = path.path.group().unwrap_or("");
            let labels = [("path", name.as_str()), ("group", group)];
            (
                (labels, [("state", state.name())]),
                u64::from(path.state == state),
            )
        })
    });
    let help = "1 for the state that a path is in, 0 for the others";
    sheet.gauges("path_state", help, rows)?;
    let rows = all.iter().map(|(name, path)| (of(name), path.transitions));
    sheet.counters("path_transitions", "Changes of the state of the path", rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), u64::from(path.nowait?))));
    let help = "1 when the path is read with RWF_NOWAIT, 0 when a kernel thread reads it";
    sheet.gauges("path_nowait", help, rows)
}

fn times(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    let rows = all.iter().map(|(name, path)| {
        let since = path.since.duration_since(SystemTime::UNIX_EPOCH);
        (of(name), since.unwrap_or(Duration::ZERO))
    });
    let help = "When the path came to its state, by the wall clock, in seconds since 1970";
    sheet.all_seconds("path_state_since", help, rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), path.verdict_age?)));
    let help = "How long ago a check last said something about the path's device";
    sheet.all_seconds("path_verdict_age", help, rows)?;
    let rows = all
        .iter()
        .map(|(name, path)| (of(name), u64::from(path.overdue)));
    let help = "1 when the next such verdict is late: the path's state is what was known then";
    sheet.gauges("path_overdue", help, rows)?;
    let rows = all
        .iter()
        .map(|(name, path)| (of(name), path.stuck.unwrap_or(Duration::ZERO)));
    let help = "How long a read of the path has been stuck, beyond its deadline; 0 when none is";
    sheet.all_seconds("path_stuck", help, rows)?;
    let rows = all.iter().map(|(name, path)| {
        let owed = path.unanswered.unwrap_or(Duration::ZERO);
        (of(name), owed)
    });
    let help =
        "How long the path has owed a good answer; 0 when it gave one when it was asked last";
    sheet.all_seconds("path_unanswered", help, rows)
}

fn checks(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    let rows = all.iter().flat_map(|(name, path)| {
        VerdictKind::ALL.map(|kind| {
            let labels = [("path", name.as_str()), ("verdict", kind.name())];
            (labels, path.checks.of(kind))
        })
    });
    sheet.counters("checks", "Checks by verdict", rows)
}

fn latencies(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    let fast = |us| Duration::from_micros(us);
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((name, path.latency_us?)))
        .flat_map(|(name, latency)| {
            let with = |share| [("path", name.as_str()), ("share", share)];
            [
                (with("0.5"), fast(latency.p50)),
                (with("0.99"), fast(latency.p99)),
                (with("1"), fast(latency.max)),
            ]
        });
    let help = "Latency that such a share of the path's last good checks did not exceed";
    sheet.all_seconds("path_latency", help, rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), fast(path.latency_us?.last))));
    sheet.all_seconds(
        "path_last_latency",
        "Latency of the path's last good check",
        rows,
    )
}

/// What a group's checks took, in buckets that are the powers of two from 64 us to 17 s. A histogram of
/// each path would be twenty series of each.
fn groups(sheet: &mut Sheet<'_>, groups: &[GroupStatus]) -> fmt::Result {
    let rows = groups.iter().map(|group| {
        let mut buckets: Vec<(f64, u64)> = (6..=24).map(|n| (f64::from(1 << n) / 1e6, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        for (below_us, count) in group.latencies.buckets() {
            let below = below_us as f64 / 1e6;
            if let Some(bucket) = buckets.iter_mut().find(|(limit, _)| below <= *limit) {
                bucket.1 += count;
            }
        }
        let histogram = Histogram {
            sum: Duration::from_micros(group.latencies.sum_us()),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        };
        ([("group", group.name.as_deref().unwrap_or(""))], histogram)
    });
    let help = "Latencies of the good checks of a group, and of all paths that are in none";
    sheet.histograms("latency", help, rows)
}

fn of(name: &str) -> [(&str, &str); 1] {
    [("path", name)]
}
