//! `pathpulse check`: each path once.

use std::path::PathBuf;
use std::time::Instant;

use pathpulse::Config;

use super::args::{self, Backend};
use super::check_report::Report;
use super::targets::{NAMES_SHARE, Targets};
use super::{Failure, apart, output};
use crate::daemon::config::Layer;
use crate::daemon::discovery::usual_disks;

/// Checks paths once
///
/// Reads one block of each path past the page cache, all at the same time, and returns within the
/// timeout and 200 ms, whatever the devices do. A device that is given by several names is read once.
///
/// Of a folder the devices are checked that its file system lies on. A name without a slash that is of nothing in
/// the working directory stands for the device of that name in /dev.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all are up (or in standby, as their target wants it), \
    1 some are marginal or unknown, 2 some are down, 3 wrong usage, nothing could be checked, or the result could not be written.\n\n\
    Examples:\n  pathpulse check\n  pathpulse check sda sdb --timeout 500ms --format json\n  \
    pathpulse check /var/lib/mysql"
)]
pub(crate) struct Args {
    /// What to check: block devices, files that take O_DIRECT, or folders [default: the disks that discovery takes by default]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How long a path may take to answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = args::watch("timeout"))]
    timeout: Layer,
    /// Where to read: first, last or rotating, which is somewhere in between
    #[arg(long, value_name = "PLACE", default_value = "first", value_parser = args::watch("read_place"))]
    read_place: Layer,
    /// How much to read, up to 128KiB; 0 is one block
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = args::watch("read_length"))]
    read_length: Layer,
    /// What carries the reads to the kernel
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        env = "PATHPULSE_BACKEND",
        default_value = "auto"
    )]
    backend: Backend,
    /// How to print the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// One line and performance data, for Nagios, Icinga and their kin
    Nagios,
}

/// In a process of its own, so that no read which a device holds holds up the one who waits for this.
pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    apart::run(|| report(args))
}

fn report(args: &Args) -> Result<i32, Failure> {
    check(args).map_err(|message| {
        if args.format == Format::Nagios {
            // Such a monitor shows what is on stdout, and knows 3 as UNKNOWN.
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
    let mut watch = args.timeout.clone();
    watch.add(&args.read_place);
    watch.add(&args.read_length);
    let mut settings = watch.settings();
    let begin = Instant::now();
    let targets = if args.paths.is_empty() {
        Targets::devices(usual_disks())
    } else {
        Targets::of(&args.paths, settings.timeout / NAMES_SHARE)
    };
    if targets.paths.is_empty() && targets.without.is_empty() {
        return Err(
            "no disk found below /sys/block but such as discovery skips, too (loop, ram, maps); name a path".to_owned(),
        );
    }
    settings.timeout = settings.timeout.saturating_sub(begin.elapsed());
    let config = Config {
        backend: args.backend.into(),
        settings,
        ..Config::default()
    };
    let checked = pathpulse::check_once(&targets.paths, &config)
        .map_err(|error| format!("nothing was checked: {error}"))?;
    let report = Report::new(&checked, &targets);
    match args.format {
        Format::Table => output::print(&report.table()),
        Format::Json => output::print_json(&report),
        Format::Nagios => output::print(&report.nagios()),
    };
    Ok(report.exit_status())
}
