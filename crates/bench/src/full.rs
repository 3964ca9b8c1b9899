//! The workloads that take minutes: cost by number of paths, effect of faulty paths on healthy
//! ones, deadlines, and memory.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::child::raise_open_files;
use crate::comparison::{self, LIMIT, compare};
use crate::deadline::{self, DeadlineRow};
use crate::devices::TestDevices;
use crate::faults::{self, FaultRow};
use crate::plan::{BenchError, Plan, open_request};
use crate::process::{ContenderError, ContenderProcess};
use crate::progress::Progress;
use crate::stats::rounded;

/// The numbers of paths for which the cost is measured.
const PATHS: [usize; 7] = [1, 16, 64, 256, 1024, 4096, 10_000];
/// The number of idle paths, if the limit of open files allows it.
const IDLE_PATHS: usize = 100_000;

/// The results of the workloads.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Full {
    /// The cost of a check, by contender and number of paths.
    pub cost: Vec<CostPoint>,
    /// The effect of faulty paths on healthy ones, by contender.
    pub faults: Vec<FaultRow>,
    /// How late the verdicts on silent devices were, by contender.
    pub deadlines: Vec<DeadlineRow>,
    /// The number of idle paths for the next value.
    pub idle_paths: usize,
    /// Anonymous memory of the engine for one of the idle paths, in bytes.
    pub idle_path_bytes: Option<f64>,
    /// Why that value is missing.
    pub idle_path_reason: Option<String>,
}

/// One contender and one number of paths. `None` if it could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct CostPoint {
    /// The contender's name.
    pub name: &'static str,
    /// The number of paths.
    pub paths: usize,
    /// CPU nanoseconds per check.
    pub cpu_ns_per_check: Option<f64>,
    /// Checks per second.
    pub checks_per_s: Option<f64>,
    /// From the start to a verdict on every path, in milliseconds.
    pub setup_ms: Option<f64>,
    /// Why a value is missing.
    pub reason: Option<String>,
}

/// The number of progress steps.
pub(crate) fn steps(names: &[&'static str]) -> usize {
    names.len() * (PATHS.len() * (comparison::COST_ROUNDS + 2) + 2) + 1
}

/// Runs all of them.
///
/// # Errors
/// The devices can't be created.
pub(crate) fn run(
    plan: &Plan,
    names: &[&'static str],
    progress: &Progress,
) -> Result<Full, BenchError> {
    let mut full = Full {
        idle_paths: idle_paths(),
        ..Full::default()
    };
    for paths in PATHS {
        let devices = TestDevices::plain(paths)?;
        let rows = compare(
            plan,
            names,
            &devices,
            paths,
            &comparison::Measurements::Cost,
            progress,
        )?
        .contenders;
        full.cost.extend(rows.into_iter().map(|row| CostPoint {
            name: row.name,
            paths,
            reason: row.reasons.get("cpu_ns_per_check").cloned(),
            cpu_ns_per_check: row.cpu_ns_per_check,
            checks_per_s: row.checks_per_s,
            setup_ms: row.setup_ms,
        }));
    }
    full.faults = faults::run(plan, names, progress)?;
    full.deadlines = deadline::run(plan, names, progress)?;
    progress.step(&format!("{} idle paths", full.idle_paths))?;
    match idle_memory(plan, full.idle_paths) {
        Ok(bytes) => full.idle_path_bytes = Some(rounded(bytes)),
        Err(reason) => full.idle_path_reason = Some(reason),
    }
    Ok(full)
}

/// A ring holds no more files than the limit of open files.
fn idle_paths() -> usize {
    raise_open_files();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    IDLE_PATHS.min(usize::try_from(limit).unwrap_or(IDLE_PATHS))
}

/// Memory of the engine's process per idle path.
fn idle_memory(plan: &Plan, paths: usize) -> Result<f64, String> {
    let Some(engine) = plan.engine.first() else {
        return Err("there is no engine".to_owned());
    };
    let devices = TestDevices::of(paths.div_ceil(1000)).map_err(|refusal| refusal.0)?;
    let failed = |error: ContenderError| error.reason("the paths were not opened");
    let mut process = ContenderProcess::start(plan.child_command(engine)).map_err(failed)?;
    let open = open_request(devices.paths(), paths, Duration::from_secs(10), false);
    let (_, bytes) = process
        .open_measuring_memory(&open, LIMIT)
        .map_err(failed)?;
    Ok(bytes as f64 / paths as f64)
}
