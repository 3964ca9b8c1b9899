//! What a benchmark is asked to do, and doing it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::child::Ask;
use crate::contest::{Extent, contest};
use crate::devices::Bed;
use crate::progress::Progress;
use crate::report::Report;
use crate::stuck::stuck_teardowns;
use crate::{ENTRANTS, FIO, full};

/// What to measure, and how the program's other processes are started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Devices to check; none: loop devices over files in memory, made for this.
    pub devices: Vec<PathBuf>,
    /// Paths, which are the devices again and again; at least 1.
    pub paths: usize,
    /// How often the contenders take turns; at least 1.
    pub rounds: usize,
    /// Names of contenders; all that there are, if none is named.
    pub only: Vec<String>,
    /// Whether the other workloads are run, too.
    pub full: bool,
    /// Set when the benchmark is to end at its next step, and to remove what it made.
    pub stop: Arc<AtomicBool>,
    /// Names of the contenders that the program brings along.
    pub engine: Vec<&'static str>,
    /// A command that calls [`crate::child_main`] with the contender that its last argument names.
    pub child: Vec<String>,
    /// A command that calls `pathpulse_faultdisk::serve_main` with the arguments added to it.
    pub rig: Vec<String>,
}

/// Why nothing can be measured, in one line: what, where, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl Plan {
    /// Names of all contenders there are, in the order of reports.
    pub fn known(engine: &[&'static str]) -> Vec<&'static str> {
        let mut names = engine.to_vec();
        names.extend(ENTRANTS.iter().map(|entrant| entrant.name));
        names.push(FIO);
        names
    }

    /// The contenders that take part.
    ///
    /// # Errors
    /// When a name is not known.
    fn names(&self) -> Result<Vec<&'static str>, Refusal> {
        let known = Plan::known(&self.engine);
        for name in &self.only {
            if !known.contains(&name.as_str()) {
                return Err(Refusal(format!(
                    "no contender is called {name}; there are {}",
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
/// When nothing can be measured. What a single contender can't do is in the report.
pub fn run(plan: &Plan) -> Result<Report, Refusal> {
    let names = plan.names()?;
    if plan.full && !plan.devices.is_empty() {
        let why = "all workloads need devices that hang and saturate; leave the devices out";
        return Err(Refusal(why.to_owned()));
    }
    let bed = Bed::new(plan)?;
    let steps = names.len() * (plan.rounds + 3);
    let more = if plan.full { full::steps(&names) } else { 0 };
    let progress = Progress::new(steps + more, &plan.stop);
    let mut report = contest(plan, &names, &bed, plan.paths, &Extent::All, &progress)?;
    stuck_teardowns(plan, &bed, &mut report, &progress)?;
    drop(bed);
    if plan.full {
        report.full = Some(full::run(plan, &names, &progress)?);
    }
    Ok(report)
}

/// How a contender is opened over a bed.
pub(crate) fn open_ask(devices: &[PathBuf], paths: usize, timeout: Duration, timed: bool) -> Ask {
    Ask::Open {
        devices: devices.to_vec(),
        paths,
        timeout_ms: timeout.as_millis() as u64,
        timed,
    }
}
