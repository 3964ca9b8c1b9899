//! The goals of the engine, compared with the measurements.

use pathpulse_bench::{Report, Row};
use serde::Serialize;

use super::daemon::DaemonFigures;

const ENGINE: &str = "pathpulse-io_uring";
const UNLINKED: &str = "pathpulse-unlinked";

/// One goal.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Aim {
    pub(crate) what: &'static str,
    /// `None` if it was not measured.
    pub(crate) measured: Option<f64>,
    pub(crate) bound: f64,
    /// Whether the bound is a minimum instead of a maximum.
    pub(crate) is_least: bool,
}

impl Aim {
    /// Whether it is reached; `None` if it was not measured.
    pub(crate) fn is_reached(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(if self.is_least {
            measured >= self.bound
        } else {
            measured <= self.bound
        })
    }
}

/// All goals.
pub(crate) fn aims(report: &Report, daemon: Option<&DaemonFigures>) -> Vec<Aim> {
    let row = |name: &str| report.contenders.iter().find(|row| row.name == name);
    let ratio = |ours: &str, field: &str, to: &str| {
        let ratio = row(ours)?.ratio(field, row(to)?)?;
        Some((ratio * 100.0).round() / 100.0)
    };
    let cpu = |ours, to| ratio(ours, "cpu_ns_per_check", to);
    let reads = |ours| ratio(ours, "checks_per_s", "fio-io_uring");
    let of_engine = |figure: fn(&Row) -> Option<f64>| row(ENGINE).and_then(figure);
    let full = report.full.as_ref();
    let most = |what, bound, measured| Aim {
        what,
        measured,
        bound,
        is_least: false,
    };
    vec![
        most(
            "CPU of a check, relative to libcheckdirectio",
            0.2,
            cpu(ENGINE, "libcheckdirectio"),
        ),
        most(
            "CPU of a check, relative to aio-group",
            1.0,
            cpu(ENGINE, "aio-group"),
        ),
        most(
            "CPU of a check, relative to lean-io_uring",
            1.15,
            cpu(ENGINE, "lean-io_uring"),
        ),
        Aim {
            is_least: true,
            ..most(
                "checks per second, relative to reads of fio",
                0.8,
                reads(ENGINE),
            )
        },
        most(
            "without linked timeouts: CPU, relative to aio-group",
            1.0,
            cpu(UNLINKED, "aio-group"),
        ),
        most(
            "without linked timeouts: CPU, relative to lean-io_uring",
            1.15,
            cpu(UNLINKED, "lean-io_uring"),
        ),
        Aim {
            is_least: true,
            ..most(
                "without linked timeouts: checks per second, relative to fio",
                0.8,
                reads(UNLINKED),
            )
        },
        most("teardown, ms", 1.0, of_engine(|row| row.teardown_ms)),
        most(
            "teardown with stuck reads, ms",
            1.0,
            of_engine(|row| row.teardown_stuck_ms),
        ),
        most(
            "reload of a daemon with 1,001 paths, ms",
            1.0,
            daemon.and_then(|daemon| Some(daemon.reload_ms?.median)),
        ),
        most(
            "reload with a stuck read, ms",
            1.0,
            daemon.and_then(|daemon| Some(daemon.reload_stuck_ms?.median)),
        ),
        most(
            "p99 of healthy paths beside faulty ones, relative to alone",
            2.0,
            full.and_then(|full| {
                let row = full.faults.iter().find(|row| row.name == ENGINE)?;
                let ratio = row.saturated_ms_p99? / row.healthy_ms_p99?;
                Some((ratio * 100.0).round() / 100.0)
            }),
        ),
        most(
            "p99 delay of verdicts on 1,000 silent paths, ms",
            2.0,
            full.and_then(|full| {
                let row = full.deadlines.iter().find(|row| row.name == ENGINE)?;
                Some(row.verdict_late_ms_p99?.median)
            }),
        ),
        most(
            "first verdicts on 10,000 paths, ms",
            1000.0,
            full.and_then(|full| {
                let mut points = full.cost.iter().filter(|point| point.name == ENGINE);
                points.find(|point| point.paths == 10_000)?.setup_ms
            }),
        ),
        most(
            "memory of an idle path, bytes",
            1024.0,
            full.and_then(|full| full.idle_path_bytes),
        ),
        most(
            "idle daemon, percent of a CPU",
            0.3,
            daemon.map(|daemon| daemon.cpu_percent),
        ),
        most(
            "idle daemon, system calls per check",
            0.1,
            daemon.and_then(|daemon| daemon.syscalls_per_check),
        ),
    ]
}
