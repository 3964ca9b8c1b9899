//! The metrics of paths: their number of series grows with the number of paths.

use std::fmt;
use std::time::{Duration, SystemTime};

use pathpulse::{GroupStatus, Monitor, PathStatus, State, VerdictKind, display_name};

use super::writer::{Histogram, MetricsWriter};
use crate::api::UnopenedPath;
use crate::human::printable;

/// A path, and its name in labels.
type Named = (String, PathStatus);

/// Writes the metrics of all paths.
pub(crate) fn write(
    writer: &mut MetricsWriter<'_>,
    monitor: &Monitor,
    unopened: &[UnopenedPath],
) -> fmt::Result {
    let all: Vec<Named> = monitor
        .status()
        .into_iter()
        .map(|(_, path)| (display_name(path.path.name()).to_string(), path))
        .collect();
    sums(writer, &all)?;
    details(writer, &all)?;
    states(writer, &all)?;
    times(writer, &all)?;
    checks(writer, &all)?;
    latencies(writer, &all)?;
    write_unopened(writer, unopened)?;
    groups(writer, &monitor.groups())
}

fn sums(writer: &mut MetricsWriter<'_>, all: &[Named]) -> fmt::Result {
    writer.gauge("paths", "Paths that are watched", all.len() as u64)?;
    let help = "Age of the oldest read in flight; 0 if there is none";
    let ages = all.iter().filter_map(|(_, path)| match path.stuck {
        // A path with a stuck read gets no other read, so the path has been unanswered since then.
        Some(stuck) => Some(path.unanswered.unwrap_or(stuck)),
        None => path.in_flight,
    });
    let oldest = ages.max().unwrap_or(Duration::ZERO);
    writer.seconds("oldest_read_in_flight", help, oldest)
}

/// Writes the metrics of paths that are not open; they have no others.
fn write_unopened(writer: &mut MetricsWriter<'_>, unopened: &[UnopenedPath]) -> fmt::Result {
    let help = "Paths on the watchlist that are not open, and so not checked";
    let unopened = unopened.iter().filter(|path| path.same_as.is_none());
    let unopened: Vec<&UnopenedPath> = unopened.collect();
    writer.gauge("paths_waiting", help, unopened.len() as u64)?;
    let names: Vec<String> = unopened
        .iter()
        .map(|path| display_name(&path.name).to_string())
        .collect();
    let rows = unopened.iter().zip(&names).map(|(path, name)| {
        let group = path.group.as_deref().unwrap_or("");
        let labels = [("path", name.as_str()), ("group", group)];
        (labels, path.begun.elapsed())
    });
    let help = "How long a path has been waiting to be opened";
    writer.all_seconds("path_waiting", help, rows)
}

/// The label `device` has the same values as that of node_exporter's disk metrics.
fn details(writer: &mut MetricsWriter<'_>, all: &[Named]) -> fmt::Result {
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
    writer.gauges(
        "path_info",
        "Always 1; the labels describe the device of the path",
        rows,
    )
}

fn states(writer: &mut MetricsWriter<'_>, all: &[Named]) -> fmt::Result {
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
    let help = "1 for the current state of the path, 0 for other states";
    writer.gauges("path_state", help, rows)?;
    let rows = all.iter().map(|(name, path)| (of(name), path.transitions));
    writer.counters("path_transitions", "State changes of the path", rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), u64::from(path.nowait?))));
    let help = "1 if the path is read with RWF_NOWAIT, 0 if a kernel thread reads it";
    writer.gauges("path_nowait", help, rows)
}

fn times(writer: &mut MetricsWriter<'_>, all: &[Named]) -> fmt::Result {
    let rows = all.iter().map(|(name, path)| {
        let since = path.since.duration_since(SystemTime::UNIX_EPOCH);
        (of(name), since.unwrap_or(Duration::ZERO))
    });
    let help = "When the path entered its state, by the wall clock, in seconds since 1970";
    writer.all_seconds("path_state_since", help, rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), path.verdict_age?)));
    let help = "Age of the last conclusive verdict about the device of the path";
    writer.all_seconds("path_verdict_age", help, rows)?;
    let rows = all
        .iter()
        .map(|(name, path)| (of(name), u64::from(path.overdue)));
    let help =
        "1 if the next conclusive verdict is late: the state of the path is the last known one";
    writer.gauges("path_overdue", help, rows)?;
    let rows = all
        .iter()
        .map(|(name, path)| (of(name), path.stuck.unwrap_or(Duration::ZERO)));
    let help = "How long a read of the path has been stuck beyond its deadline; 0 if none is";
    writer.all_seconds("path_stuck", help, rows)?;
    let rows = all.iter().map(|(name, path)| {
        let owed = path.unanswered.unwrap_or(Duration::ZERO);
        (of(name), owed)
    });
    let help = "How long reads of the path have had no good answer; 0 if the last one had";
    writer.all_seconds("path_unanswered", help, rows)
}

fn checks(writer: &mut MetricsWriter<'_>, all: &[Named]) -> fmt::Result {
    let rows = all.iter().flat_map(|(name, path)| {
        VerdictKind::ALL.map(|kind| {
            let labels = [("path", name.as_str()), ("verdict", kind.name())];
            (labels, path.checks.of(kind))
        })
    });
    writer.counters("checks", "Checks by verdict", rows)
}

fn latencies(writer: &mut MetricsWriter<'_>, all: &[Named]) -> fmt::Result {
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
    let help = "Latency that this share of the last good checks of the path did not exceed";
    writer.all_seconds("path_latency", help, rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), fast(path.latency_us?.last))));
    writer.all_seconds(
        "path_last_latency",
        "Latency of the last good check of the path",
        rows,
    )
}

/// Histograms of the latencies of groups. The buckets are the powers of two from 64 us to 17 s. A
/// histogram per path would need twenty series per path.
fn groups(writer: &mut MetricsWriter<'_>, groups: &[GroupStatus]) -> fmt::Result {
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
    let help = "Latencies of the good checks of a group; without a name: of paths without a group";
    writer.histograms("latency", help, rows)
}

fn of(name: &str) -> [(&str, &str); 1] {
    [("path", name)]
}
