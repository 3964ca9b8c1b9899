//! How late the verdicts on silent devices are. A sweep over a thousand hanging paths ends with the
//! last verdict, which should come at its deadline. The checks start one after the other, so the
//! last deadline is later than the first.

use std::path::PathBuf;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec};
use serde::Serialize;

use crate::FIO;
use crate::comparison::LIMIT;
use crate::plan::{BenchError, Plan, open_request};
use crate::process::{ContenderError, ContenderProcess};
use crate::progress::Progress;
use crate::stats::{Spread, percentile};

const DEVICES: usize = 10;
/// The paths are spread evenly over the devices. Each has fewer paths than tags.
const PATHS: usize = 1000;
/// The plugin supports only whole seconds.
const TIMEOUT: Duration = Duration::from_secs(1);
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
const ROUNDS: usize = 5;

/// How late the verdicts of a sweep were.
#[derive(Clone, Debug, Serialize)]
pub struct DeadlineRow {
    /// The contender's name.
    pub name: &'static str,
    /// The last verdict, in milliseconds after the first deadline.
    pub last_verdict_late_ms: Option<Spread>,
    /// The 99th percentile, in milliseconds after each verdict's own deadline. `None` if the
    /// contender does not know when it started each check.
    pub verdict_late_ms_p99: Option<Spread>,
    /// Why there are no values.
    pub reason: Option<String>,
}

pub(crate) fn run(
    plan: &Plan,
    names: &[&'static str],
    progress: &Progress,
) -> Result<Vec<DeadlineRow>, BenchError> {
    let rig = Rig::start_with(plan.rig_command(), &Spec::loops(DEVICES))
        .map_err(|error| BenchError(format!("cannot create devices that hang: {error}")))?;
    let mut rows = Vec::new();
    for &name in names {
        progress.step(&format!("{name}: sweeping 1000 silent paths"))?;
        let late = if name == FIO {
            Err("fio has no deadlines".to_owned())
        } else {
            measure(plan, &rig, name)
        };
        for disk in 0..DEVICES {
            let _ = rig.recover(disk);
        }
        let of_each = |figure: fn(&Late) -> Option<f64>| {
            let rounds = late.as_ref().ok()?.iter().map(figure);
            Spread::of(&rounds.collect::<Option<Vec<f64>>>()?)
        };
        rows.push(DeadlineRow {
            name,
            last_verdict_late_ms: of_each(|late| Some(late.last_ms)),
            verdict_late_ms_p99: of_each(|late| late.p99_ms),
            reason: late.err(),
        });
    }
    Ok(rows)
}

/// The result of one sweep.
struct Late {
    last_ms: f64,
    p99_ms: Option<f64>,
}

fn measure(plan: &Plan, rig: &Rig, name: &str) -> Result<Vec<Late>, String> {
    let failed = |error: ContenderError| error.reason("the sweep waits for a silent device");
    let rig_failed =
        |error: std::io::Error| format!("cannot control the devices that hang: {error}");
    let devices: Vec<PathBuf> = rig.disks().iter().map(|d| d.path().to_owned()).collect();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        // A new process each time, so that stuck paths are not checked again.
        let mut process = ContenderProcess::start(plan.child_command(name)).map_err(failed)?;
        let open = open_request(&devices, PATHS, TIMEOUT, false);
        process.open(&open, LIMIT).map_err(failed)?;
        let silent: Vec<_> = (0..DEVICES).map(|disk| (disk, Behaviour::Hang)).collect();
        rig.set_many(&silent).map_err(rig_failed)?;
        let swept = process
            .sweep(1, Duration::ZERO, SWEEP_LIMIT)
            .map_err(failed)?;
        if swept.path_counts.good > 0 {
            return Err("silent paths were reported as good".to_owned());
        }
        let ns: u64 = swept.sweep_ns.iter().sum();
        let each = process.lateness_us(SWEEP_LIMIT).map_err(failed)?;
        let each_ms: Vec<f64> = each.iter().map(|us| *us as f64 / 1e3).collect();
        rounds.push(Late {
            last_ms: (ns as f64 - TIMEOUT.as_nanos() as f64) / 1e6,
            p99_ms: percentile(&each_ms, 99.0),
        });
        drop(process);
        for disk in 0..DEVICES {
            rig.set(disk, Behaviour::Answer).map_err(rig_failed)?;
            rig.release(disk, Release::Data).map_err(rig_failed)?;
        }
    }
    Ok(rounds)
}
