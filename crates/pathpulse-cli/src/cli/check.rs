//! `pathpulse check`: checks each path once.

use std::time::Instant;

use pathpulse::Config;

use super::args::{BackendOption, CheckKeys, FormatOption, KeyOptions, ReadPaths};
use super::check_report::CheckResults;
use super::targets::{NAMES_SHARE, Targets};
use super::{Failure, output, subprocess};
use crate::daemon::discovery::usual_disks;

/// Checks each path once
///
/// Reads one block of each path directly from the device, all paths at the same time. Returns
/// within the timeout plus 200 ms, whatever the devices do. A device that has several names is read
/// once.
///
/// Without PATH, it checks the disks that discovery finds by default. For a directory, it checks
/// the devices of its file system. A name without a slash means a file in the working directory, or
/// else the device of that name in /dev.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all paths are up or in standby, 1 some are marginal or unknown, 2 some are down, 3 wrong usage, or no path could be checked, \
    or the result could not be written.\n\n\
    Examples:\n  pathpulse check\n  pathpulse check sda sdb --timeout 500ms --format json\n  \
    pathpulse check /var/lib/mysql"
)]
pub(crate) struct Args {
    #[command(flatten)]
    paths: ReadPaths,
    #[command(flatten)]
    keys: KeyOptions<CheckKeys>,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    output: FormatOption<CheckFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// For Nagios, Icinga and similar monitors: one line with performance data
    Nagios,
}

/// Reads in a subprocess, so that a read without an answer does not block the caller.
pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    subprocess::run(|| report(args))
}

fn report(args: &Args) -> Result<i32, Failure> {
    check(args).map_err(|message| {
        if args.output.format == CheckFormat::Nagios {
            // Such a monitor shows stdout, and takes status 3 for UNKNOWN.
            output::print(&format!(
                "PATHPULSE UNKNOWN - {}\n",
                output::printable(&message)
            ));
        }
        Failure::usage(message)
    })
}

fn check(args: &Args) -> Result<i32, String> {
    pathpulse_kernel_compat::raise_open_files_limit();
    let mut settings = args.keys.given.settings();
    let begin = Instant::now();
    let names = &args.paths.paths;
    let targets = if names.is_empty() {
        Targets::devices(usual_disks())
    } else {
        Targets::of(names, settings.timeout / NAMES_SHARE)
    };
    if targets.paths.is_empty() && targets.without.is_empty() {
        return Err(
            "no disks found: /sys/block has only devices that discovery skips by default \
             (such as loop, ram, multipath maps); name a path"
                .to_owned(),
        );
    }
    settings.timeout = settings.timeout.saturating_sub(begin.elapsed());
    let config = Config {
        backend: args.backend.given().unwrap_or_default(),
        settings,
        ..Config::default()
    };
    let checked = pathpulse::check_once(&targets.paths, &config)
        .map_err(|error| format!("no path was checked: {error}"))?;
    let results = CheckResults::new(&checked, &targets);
    match args.output.format {
        CheckFormat::Table => output::print(&results.table()),
        CheckFormat::Json => output::print_json(&results),
        CheckFormat::Nagios => output::print(&results.nagios()),
    };
    Ok(results.exit_status())
}
