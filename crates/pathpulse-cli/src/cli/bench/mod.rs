//! `pathpulse bench`: compares this engine with the legacy checkers.
//!
//! The measurements are in the crate `pathpulse-bench`, which does not depend on the engine.
//! `engine.rs` has the engine's contenders, `daemon.rs` and `small_hosts.rs` measure the daemon
//! against `baseline.rs`, and `table.rs` prints the result.

mod aims;
mod baseline;
mod daemon;
mod daemon_process;
mod engine;
mod small_hosts;
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
use self::small_hosts::SmallHost;
use self::table::{full_tables, tables};
use super::args::{Format, FormatOption};
use super::{Failure, output};

/// The hidden commands that start this program's other processes.
const CONTENDER: &str = "bench-contender";
const RIG: &str = "rig-server";

/// Compares this engine with the legacy aio checkers
///
/// Each contender checks all paths in a process of its own, and the contenders take turns. Without
/// DEVICE, the paths are loop devices in memory, which needs root, and some of them hang to measure
/// the teardown with stuck reads. With DEVICE, bench only reads the first block of each device. It
/// leaves out measurements that need missing programs (fio, multipath-tools, strace), and says so.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 measured, 1 the plots could not be written, 3 wrong usage, or nothing could be measured.\n\n\
    Examples:\n  sudo pathpulse bench\n  sudo pathpulse bench --paths 64 --only pathpulse-io_uring,aio-group\n  \
                  sudo pathpulse bench /dev/sdb /dev/sdc --format json"
)]
pub(crate) struct Args {
    /// Block devices to check, each as often as needed for --paths
    #[arg(value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// Number of paths; a device can be opened several times
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    paths: u32,
    /// Number of turns of each contender
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Measure these contenders only
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Run all workloads, which takes minutes: cost by number of paths, faulty paths beside healthy
    /// ones, deadlines, memory, the daemon
    #[arg(long, conflicts_with = "devices")]
    full: bool,
    /// Run all workloads, and write the plots as SVG files to this directory
    #[arg(long, value_name = "DIR", conflicts_with = "devices")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    output: FormatOption,
}

/// The JSON document. Only a full run has the second part.
#[derive(Serialize)]
pub(crate) struct BenchDocument {
    #[serde(flatten)]
    pub(crate) report: Report,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<More>,
}

/// Measurements of the daemon.
#[derive(Serialize)]
pub(crate) struct More {
    pub(crate) daemon: Option<DaemonFigures>,
    pub(crate) daemon_reason: Option<String>,
    /// The daemon on hosts with few paths.
    pub(crate) small_hosts: Vec<SmallHost>,
    pub(crate) small_hosts_reason: Option<String>,
    pub(crate) aims: Vec<Aim>,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let usage = |problem: String| Failure::usage(problem);
    let program = std::env::current_exe()
        .map_err(|error| usage(format!("cannot find the file of this program: {error}")))?
        .into_os_string()
        .into_string()
        .map_err(|_| {
            usage("the path of this program is not UTF-8; install it elsewhere".to_owned())
        })?;
    let stop = stop_signals().map_err(|error| usage(format!("cannot handle signals: {error}")))?;
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
    if let Some(directory) = &args.plots {
        plot(&report, directory)
            .map_err(|problem| Failure::new(format!("cannot write the plots: {problem}")))?;
    }
    let more =
        (plan.full && !stop.load(Relaxed)).then(|| more(Path::new(&program), &report, &stop));
    let document = BenchDocument { report, more };
    match args.output.format {
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
    let small = small_hosts::measure(program, stop);
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
        None => Err(Failure::usage(format!("unknown contender {name}"))),
    }
}
