//! The workloads that take minutes: cost against the number of paths, what healthy paths feel of
//! sick ones, deadlines, memory.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::child::raise_open_files;
use crate::contest::{self, LIMIT, contest};
use crate::deadline::{self, DeadlineRow};
use crate::devices::Bed;
use crate::faults::{self, FaultRow};
use crate::figures::rounded;
use crate::plan::{Plan, Refusal, open_ask};
use crate::progress::Progress;
use crate::remote::{Remote, Trouble};

/// Numbers of paths to which the cost is measured.
const PATHS: [usize; 7] = [1, 16, 64, 256, 1024, 4096, 10_000];
/// Paths that do nothing but be there, if the limit of open files allows so many.
const IDLE_PATHS: usize = 100_000;

/// What the workloads showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Full {
    /// What a check costs, by contender and number of paths.
    pub cost: Vec<CostPoint>,
    /// What healthy paths feel of sick ones, by contender.
    pub faults: Vec<FaultRow>,
    /// When the verdicts on silent devices came, by contender.
    pub deadlines: Vec<DeadlineRow>,
    /// How many paths are idle for the next figure.
    pub idle_paths: usize,
    /// Memory for one path of the engine among very many, in bytes; all that has no file behind it.
    pub idle_path_bytes: Option<f64>,
    /// Why there is no such figure.
    pub idle_path_reason: Option<String>,
}

/// One contender and one number of paths. `None`: it could not be measured there.
#[derive(Clone, Debug, Serialize)]
pub struct CostPoint {
    /// Its name.
    pub name: &'static str,
    /// How many paths.
    pub paths: usize,
    /// CPU nanoseconds for a check.
    pub cpu_ns_per_check: Option<f64>,
    /// Checks in a second.
    pub checks_per_s: Option<f64>,
    /// From nothing to a verdict on every path, in milliseconds.
    pub setup_ms: Option<f64>,
    /// Why not.
    pub reason: Option<String>,
}

/// How often the bar moves.
pub(crate) fn steps(names: &[&'static str]) -> usize {
    names.len() * (PATHS.len() * (contest::COST_ROUNDS + 2) + 2) + 1
}

/// Runs them all.
///
/// # Errors
/// When there are no devices.
pub(crate) fn run(
    plan: &Plan,
    names: &[&'static str],
    progress: &Progress,
) -> Result<Full, Refusal> {
    let mut full = Full {
        idle_paths: idle_paths(),
        ..Full::default()
    };
    for paths in PATHS {
        let bed = Bed::plain(paths)?;
        let rows = contest(plan, names, &bed, paths, &contest::Extent::Cost, progress)?.contenders;
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

/// A ring keeps no more files than the limit of open ones.
fn idle_paths() -> usize {
    raise_open_files();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    IDLE_PATHS.min(usize::try_from(limit).unwrap_or(IDLE_PATHS))
}

/// Memory of the engine's process for one of very many paths.
fn idle_memory(plan: &Plan, paths: usize) -> Result<f64, String> {
    let Some(engine) = plan.engine.first() else {
        return Err("there is no engine".to_owned());
    };
    let bed = Bed::of(paths.div_ceil(1000)).map_err(|refusal| refusal.0)?;
    let failed = |trouble: Trouble| trouble.reason("it did not open them");
    let mut remote = Remote::start(plan.child_command(engine)).map_err(failed)?;
    let open = open_ask(bed.paths(), paths, Duration::from_secs(10), false);
    let (_, bytes) = remote.open_weighed(&open, LIMIT).map_err(failed)?;
    Ok(bytes as f64 / paths as f64)
}
