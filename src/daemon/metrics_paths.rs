//! The metrics of paths: what grows with their number.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pathpulse::{Monitor, PathStatus, State, VerdictKind};

use super::metrics::Sheet;

/// A path, and the name that its series have.
type Named = (String, PathStatus);

/// Writes what there is to say about all paths, and each.
pub(crate) fn write(sheet: &mut Sheet<'_>, monitor: &Monitor) -> fmt::Result {
    let all: Vec<Named> = monitor
        .status()
        .into_iter()
        .map(|(_, path)| (label(path.path.name()), path))
        .collect();
    sums(sheet, &all, monitor.config().settings.timeout)?;
    states(sheet, &all)?;
    checks(sheet, &all)?;
    latencies(sheet, &all)
}

fn sums(sheet: &mut Sheet<'_>, all: &[Named], timeout: Duration) -> fmt::Result {
    sheet.gauge("paths", "Paths that are watched", all.len() as u64)?;
    let stuck = || all.iter().filter_map(|(_, path)| path.stuck);
    let help = "Reads past their deadline that the kernel still owns";
    sheet.gauge("stuck_reads", help, stuck().count() as u64)?;
    let help = "Since when the oldest of all reads has been in flight, if it is past its deadline; 0 when none is";
    let oldest = stuck()
        .max()
        .map_or(Duration::ZERO, |stuck| stuck + timeout);
    sheet.seconds("oldest_read_in_flight", help, oldest)
}

fn states(sheet: &mut Sheet<'_>, all: &[Named]) -> fmt::Result {
    let rows = all.iter().flat_map(|(name, path)| {
        State::ALL.map(|state| {
            let labels = [("path", name.as_str()), ("state", state.name())];
            (labels, u64::from(path.state == state))
        })
    });
    let help = "1 for the state that a path is in, 0 for the others";
    sheet.gauges("path_state", help, rows)?;
    let rows = all.iter().map(|(name, path)| {
        let since = path.since.duration_since(SystemTime::UNIX_EPOCH);
        (of(name), since.unwrap_or(Duration::ZERO))
    });
    let help = "When the path came to its state, by the wall clock, in seconds since 1970";
    sheet.all_seconds("path_state_since", help, rows)?;
    let rows = all
        .iter()
        .map(|(name, path)| (of(name), path.stuck.unwrap_or(Duration::ZERO)));
    let help = "How long a read of the path has been stuck, beyond its deadline; 0 when none is";
    sheet.all_seconds("path_stuck", help, rows)?;
    let rows = all
        .iter()
        .filter_map(|(name, path)| Some((of(name), u64::from(path.nowait?))));
    let help = "1 when the path is read with RWF_NOWAIT, 0 when a kernel thread reads it";
    sheet.gauges("path_nowait", help, rows)
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
    let help = "Latency that such a share of the path's good checks since its start did not exceed";
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

fn of(name: &str) -> [(&str, &str); 1] {
    [("path", name)]
}

/// The name of a path as text. Names that are none are escaped, so that no two become the same.
fn label(name: &Path) -> String {
    match name.to_str() {
        Some(text) => text.to_owned(),
        None => name
            .as_os_str()
            .as_encoded_bytes()
            .escape_ascii()
            .to_string(),
    }
}
