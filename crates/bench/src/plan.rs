//! The plan of a benchmark, and its execution.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::child::RequestMsg;
use crate::comparison::{Measurements, compare};
use crate::devices::TestDevices;
use crate::progress::Progress;
use crate::report::Report;
use crate::stuck::stuck_teardowns;
use crate::{CONTENDERS, FIO, full};

/// What to measure, and how to start the program's other processes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Devices to check. If there are none, temporary loop devices over files in memory are used.
    pub devices: Vec<PathBuf>,
    /// The number of paths, at least 1. The devices are repeated.
    pub paths: usize,
    /// The number of rounds, at least 1.
    pub rounds: usize,
    /// Names of contenders. All contenders take part if this is empty.
    pub only: Vec<String>,
    /// Whether to run the other workloads, too.
    pub full: bool,
    /// Set this to end the benchmark at its next step. It then removes what it created.
    pub stop: Arc<AtomicBool>,
    /// Names of the contenders that the program provides.
    pub engine: Vec<&'static str>,
    /// A command that calls [`crate::child_main`] with the contender named by its last argument.
    pub child: Vec<String>,
    /// A command that calls `pathpulse_faultdisk::serve_main` with the added arguments.
    pub rig: Vec<String>,
}

/// Why nothing can be measured, in one line: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchError(pub String);

impl Plan {
    /// Names of all contenders, in the order of reports.
    pub fn known(engine: &[&'static str]) -> Vec<&'static str> {
        let mut names = engine.to_vec();
        names.extend(CONTENDERS.iter().map(|contender_type| contender_type.name));
        names.push(FIO);
        names
    }

    /// The contenders that take part.
    ///
    /// # Errors
    /// A name is unknown.
    fn names(&self) -> Result<Vec<&'static str>, BenchError> {
        let known = Plan::known(&self.engine);
        for name in &self.only {
            if !known.contains(&name.as_str()) {
                return Err(BenchError(format!(
                    "unknown contender {name}: expected one of {}",
                    known.join(", ")
                )));
            }
        }
        let takes_part = |name: &&str| {
            self.only.is_empty() || self.only.iter().any(|wanted| wanted.as_str() == *name)
        };
        Ok(known.into_iter().filter(takes_part).collect())
    }

    pub(crate) fn child_command(&self, name: &str) -> Command {
        let mut command = command_of(&self.child);
        command.arg(name);
        command
    }

    pub(crate) fn rig_command(&self) -> Command {
        command_of(&self.rig)
    }
}

fn command_of(words: &[String]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words);
    command
}

/// Runs the benchmark.
///
/// # Errors
/// Nothing can be measured. Failures of a single contender are in the report.
pub fn run(plan: &Plan) -> Result<Report, BenchError> {
    let names = plan.names()?;
    if plan.full && !plan.devices.is_empty() {
        let why = "the full benchmark needs devices that hang and saturate; do not specify devices";
        return Err(BenchError(why.to_owned()));
    }
    let devices = TestDevices::new(plan)?;
    let steps = names.len() * (plan.rounds + 3);
    let more = if plan.full { full::steps(&names) } else { 0 };
    let progress = Progress::new(steps + more, &plan.stop);
    let mut report = compare(
        plan,
        &names,
        &devices,
        plan.paths,
        &Measurements::All,
        &progress,
    )?;
    stuck_teardowns(plan, &devices, &mut report, &progress)?;
    drop(devices);
    if plan.full {
        report.full = Some(full::run(plan, &names, &progress)?);
    }
    Ok(report)
}

/// The request to open a contender over these devices.
pub(crate) fn open_request(
    devices: &[PathBuf],
    paths: usize,
    timeout: Duration,
    timed: bool,
) -> RequestMsg {
    RequestMsg::Open {
        devices: devices.to_vec(),
        paths,
        timeout_ms: timeout.as_millis() as u64,
        timed,
    }
}
