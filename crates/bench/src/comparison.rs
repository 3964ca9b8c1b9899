//! Sweeps over healthy paths: all contenders are open at the same time and take turns.

use std::time::Duration;

use crate::devices::TestDevices;
use crate::plan::{BenchError, Plan, open_request};
use crate::process::{ContenderError, ContenderProcess};
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::stats::percentile;
use crate::{FIO, fio, strace};

/// Deadline of the checks. All of them end long before.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a contender may take for any step here.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Rounds of each contender if only the cost is measured.
pub(crate) const COST_ROUNDS: usize = 5;
/// A contender's turn in a round: at least this many sweeps, and at least this long.
const SWEEPS: u64 = 3;
const TURN: Duration = Duration::from_millis(100);

/// What to measure.
pub(crate) enum Measurements {
    /// Everything, including system calls and teardown.
    All,
    /// Only the cost, in few rounds.
    Cost,
}

struct Running {
    row: Row,
    process: Result<ContenderProcess, ContenderError>,
    results: RoundResults,
}

/// One value for each round.
#[derive(Default)]
struct RoundResults {
    checks_per_s: Vec<f64>,
    cpu_ns: Vec<f64>,
    syscalls: Vec<f64>,
    /// Of all rounds.
    sweep_ms: Vec<f64>,
}

/// Lets the contenders sweep over this many paths of the devices.
pub(crate) fn compare(
    plan: &Plan,
    names: &[&'static str],
    devices: &TestDevices,
    paths: usize,
    measurements: &Measurements,
    progress: &Progress,
) -> Result<Report, BenchError> {
    let rounds = match measurements {
        Measurements::All => plan.rounds,
        Measurements::Cost => COST_ROUNDS,
    };
    let mut running: Vec<Running> = names
        .iter()
        .map(|name| {
            progress.step(&format!("{name}: opening {paths} paths"))?;
            Ok(start(plan, name, devices, paths))
        })
        .collect::<Result<_, BenchError>>()?;
    for _ in 0..rounds {
        for contender in &mut running {
            progress.step(&format!("{}: sweeping {paths} paths", contender.row.name))?;
            run_round(contender, devices, paths);
        }
    }
    let rows = running.into_iter().map(|mut contender| {
        progress.step(&format!("{}: tearing down", contender.row.name))?;
        contender.record_results();
        Ok(match measurements {
            Measurements::All => finish(plan, contender, devices, paths),
            Measurements::Cost => contender.row,
        })
    });
    Ok(Report {
        device: devices.name(),
        paths,
        rounds,
        contenders: rows.collect::<Result<_, BenchError>>()?,
        full: None,
    })
}

fn start(plan: &Plan, name: &'static str, devices: &TestDevices, paths: usize) -> Running {
    let mut row = Row::new(name);
    let process = if name == FIO {
        fio::is_installed().and_then(|()| {
            Err(ContenderError::Failed(
                "fio is a separate program".to_owned(),
            ))
        })
    } else {
        ContenderProcess::start(plan.child_command(name)).and_then(|mut process| {
            let took =
                process.open(&open_request(devices.paths(), paths, TIMEOUT, false), LIMIT)?;
            row.record_once("setup_ms", took.as_secs_f64() * 1e3);
            Ok(process)
        })
    };
    Running {
        row,
        process,
        results: RoundResults::default(),
    }
}

fn run_round(contender: &mut Running, devices: &TestDevices, paths: usize) {
    let results = &mut contender.results;
    if contender.row.name == FIO {
        match fio::run(devices.paths(), paths) {
            Ok(result) => {
                results.checks_per_s.push(result.reads_per_s);
                results.cpu_ns.push(result.cpu_ns_per_read);
                contender.row.bad_paths = Some(0);
            }
            Err(error) => contender.row.set_missing_reasons(&error.reason("fio")),
        }
        return;
    }
    let Ok(process) = &mut contender.process else {
        return;
    };
    match process.sweep(SWEEPS, TURN, LIMIT) {
        Ok(swept) => {
            let sweeps = swept.sweep_ns.len() as f64;
            let checks = sweeps * paths as f64;
            let ns: u64 = swept.sweep_ns.iter().sum();
            results.checks_per_s.push(checks / ns as f64 * 1e9);
            results.cpu_ns.push(swept.cpu_ns as f64 / checks);
            let calls = swept.syscalls.map(|calls| calls as f64 / checks);
            results.syscalls.extend(calls);
            let ms = swept.sweep_ns.iter().map(|ns| *ns as f64 / 1e6);
            results.sweep_ms.extend(ms);
            contender.row.bad_paths = Some(swept.path_counts.bad);
        }
        Err(error) => contender.process = Err(error),
    }
}

impl Running {
    /// Writes the medians of all rounds into the row.
    fn record_results(&mut self) {
        let Running { row, results, .. } = self;
        row.record("checks_per_s", &results.checks_per_s);
        row.record("cpu_ns_per_check", &results.cpu_ns);
        row.record("syscalls_per_check", &results.syscalls);
        for (field, percent) in [("sweep_ms_p50", 50.0), ("sweep_ms_p99", 99.0)] {
            if let Some(ms) = percentile(&results.sweep_ms, percent) {
                row.record_once(field, ms);
            }
        }
        if let Err(error) = &self.process
            && row.name != FIO
        {
            row.set_missing_reasons(&error.reason("no answer"));
        }
    }
}

/// Makes the measurements that are made once.
fn finish(plan: &Plan, contender: Running, devices: &TestDevices, paths: usize) -> Row {
    let Running {
        mut row,
        mut process,
        results,
    } = contender;
    let works = process.is_ok() || !results.checks_per_s.is_empty();
    if works && row.syscalls_per_check.is_none() {
        match strace::syscalls_per_check(plan, row.name, devices.paths(), paths) {
            Ok(calls) => row.record_once("syscalls_per_check", calls),
            Err(reason) => row.set_reason("syscalls_per_check", reason),
        }
    }
    match &mut process {
        Ok(process) => match process.tear_down(LIMIT) {
            Ok(took) => {
                row.record_once("teardown_ms", took.as_secs_f64() * 1e3);
                let open = open_request(devices.paths(), paths, TIMEOUT, false);
                match process.open(&open, LIMIT) {
                    Ok(again) => row.record_once("reload_ms", (took + again).as_secs_f64() * 1e3),
                    Err(error) => {
                        row.set_reason("reload_ms", error.reason("the second setup did not end"));
                    }
                }
            }
            Err(error) => {
                let reason = error.reason("the teardown did not end");
                row.set_reason("teardown_ms", &*reason);
                row.set_reason("reload_ms", reason);
            }
        },
        Err(_) if row.name == FIO && works => {
            for field in ["sweep_ms_p50", "sweep_ms_p99"] {
                row.set_reason(field, "fio reads continuously and has no sweeps");
            }
            for field in ["setup_ms", "teardown_ms", "teardown_stuck_ms", "reload_ms"] {
                row.set_reason(field, "fio does not report its own time separately");
            }
        }
        Err(error) => {
            let reason = error.reason("no answer");
            row.set_missing_reasons(&reason);
        }
    }
    row
}
