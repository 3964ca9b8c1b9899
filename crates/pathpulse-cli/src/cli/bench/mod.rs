//! `pathpulse bench`: this engine beside the legacy checkers.
//!
//! What is measured and how is in the crate `pathpulse-bench`, which knows nothing of the engine;
//! the engine's contenders are in `engine.rs`, the tables in `table.rs`.

mod aims;
mod daemon;
mod engine;
mod rest;
mod small;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pathpulse_bench::{CONTENDERS, Plan, Report, plot};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use self::aims::{Aim, aims};
use self::daemon::DaemonFigures;
use self::engine::ENGINE;
use self::small::SmallHost;
use self::table::{full_tables, tables};
use super::args::Format;
use super::{Failure, output};

/// The hidden commands by which this program's other processes are started.
const CONTENDER: &str = "bench-contender";
const RIG: &str = "rig-server";

/// Measures this engine beside the legacy aio checkers
///
/// Each contender checks all paths, in a process of its own, and they take turns. Without DEVICE
/// the paths lead to loop devices over files in memory, which needs root; some are made to hang for
/// the teardown with stuck reads. With DEVICE nothing is done to them but direct reads of their
/// first block. What is not installed (fio, multipath-tools, strace) is left out, with the reason.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo pathpulse bench\n  sudo pathpulse bench --paths 64 --only pathpulse-io_uring,aio-group\n  \
                  sudo pathpulse bench /dev/sdb /dev/sdc --format json"
)]
pub(crate) struct Args {
    /// Block devices to check instead, as many paths as there are --paths
    #[arg(value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// How many paths; the same device is opened again and again
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    paths: u32,
    /// How often the contenders take turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Contenders that take part
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// All workloads: cost against the number of paths, sick paths beside healthy ones, deadlines,
    /// memory. Takes minutes
    #[arg(long, conflicts_with = "devices")]
    full: bool,
    /// Runs all workloads, and draws the result into this folder as SVG
    #[arg(long, value_name = "DIR", conflicts_with = "devices")]
    plots: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// All that was measured. What is in the parts is there only after a full run.
#[derive(Serialize)]
pub(crate) struct Document {
    #[serde(flatten)]
    pub(crate) report: Report,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<More>,
}

/// What only this program can measure of itself.
#[derive(Serialize)]
pub(crate) struct More {
    pub(crate) daemon: Option<DaemonFigures>,
    pub(crate) daemon_reason: Option<String>,
    /// The daemon on hosts of few paths.
    pub(crate) small_hosts: Vec<SmallHost>,
    pub(crate) small_hosts_reason: Option<String>,
    pub(crate) aims: Vec<Aim>,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let usage = |problem: String| Failure::usage(problem);
    let program = std::env::current_exe()
        .map_err(|error| usage(format!("where this program is: {error}")))?
        .into_os_string()
        .into_string()
        .map_err(|_| usage("the path of this program is not text".to_owned()))?;
    let stop = stop_signals().map_err(|error| usage(format!("signals: {error}")))?;
    let plan = Plan {
        stop: Arc::clone(&stop),
        devices: args.devices.clone(),
        paths: args.paths as usize,
        rounds: args.rounds as usize,
        only: args.only.clone(),
        full: args.full || args.plots.is_some(),
        engine: ENGINE.iter().map(|entrant| entrant.name).collect(),
        child: vec![program.clone(), CONTENDER.to_owned()],
        rig: vec![program.clone(), RIG.to_owned()],
    };
    let report = pathpulse_bench::run(&plan).map_err(|refusal| usage(refusal.0))?;
    if let Some(folder) = &args.plots {
        plot(&report, folder).map_err(|problem| Failure::new(format!("plots: {problem}")))?;
    }
    let more =
        (plan.full && !stop.load(Relaxed)).then(|| more(Path::new(&program), &report, &stop));
    let document = Document { report, more };
    match args.format {
        Format::Json => output::print_json(&document),
        Format::Table => output::print(&(tables(&document.report) + &full_tables(&document))),
    };
    Ok(0)
}

/// The first signal ends the benchmark at its next step, so that it removes its devices; the second
/// ends the process.
fn stop_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn more(program: &Path, report: &Report, stop: &AtomicBool) -> More {
    let daemon = daemon::measure(program, stop);
    let small = small::measure(program, stop);
    More {
        small_hosts_reason: small.as_ref().err().cloned(),
        small_hosts: small.unwrap_or_default(),
        aims: aims(report, daemon.as_ref().ok()),
        daemon_reason: daemon.as_ref().err().cloned(),
        daemon: daemon.ok(),
    }
}

/// The process of one contender.
pub(crate) fn contend(name: &str) -> Result<i32, Failure> {
    let mut known = ENGINE.iter().chain(&CONTENDERS);
    match known.find(|entrant| entrant.name == name) {
        Some(entrant) => Ok(pathpulse_bench::child_main(entrant)),
        None => Err(Failure::usage(format!("no contender is called {name}"))),
    }
}
