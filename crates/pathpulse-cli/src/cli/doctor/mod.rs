//! `pathpulse doctor`: what this kernel offers, what is chosen and why, and what stands in the way.
//!
//! # The JSON document
//!
//! What does not exist or is not known is null, never left out.
//!
//! | field | what it is |
//! |---|---|
//! | `version` | of pathpulse |
//! | `kernel` | `{system, release, version, machine}`, as uname(2) has them |
//! | `backend`, `reason` | which one `auto` takes (null: none works), and why |
//! | `backends[]` | `{name, available, call, errno, hint}`, in the order in which `auto` tries them; `call`, `errno` (`"EPERM"`) and `hint` say why one is not available |
//! | `io_uring` | null where it is not available, else `{sq_entries, cq_entries, features[]}` |
//! | `io_uring.features[]` | `{name, state, since, brings}`; `state` is `in_use`, `missing` or `not_needed`, `since` the Linux that has it |
//! | `limits` | `{aio_nr, aio_max_nr, memlock_bytes, open_files}`, the last two `{soft, hard}` with null for no limit |
//! | `io_uring_disabled` | the sysctl kernel.io_uring_disabled; null before Linux 6.6, which has none |
//! | `seccomp` | of this process: `off`, `strict`, `filter`; null if the kernel has no seccomp |
//! | `held_processes[]` | `{pid, since, devices}`: dead processes of pathpulse that the kernel holds until devices answer; `since` is null where it is not known |
//! | `paths[]` | as in `check --format json` (`path, also, under, device, verdict, state, errno, latency_us, message`), and `readable, nowait, submission, size_bytes, block_bytes, device_state, access_state, group, iostats`; empty if none was named |
//! | `hints[]` | `{about, hint}`: what a person can do, `about` a backend, a limit or a path |

mod backends;
mod environment;
mod features;
mod held;
mod hints;
mod paths;
mod tables;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use self::backends::Backends;
use self::environment::Environment;
use self::features::RingReport;
use self::held::HeldReport;
use self::hints::Hint;
use self::paths::PathReport;
use super::args::{self, Format};
use super::{FAILED, Failure, apart, output};

/// Shows what this kernel offers, what is chosen and why, and what can be done
///
/// No disk is read unless it is named; `pathpulse check` finds all by itself. Each named path is
/// read once, and the command returns within the timeout and 200 ms, whatever the devices do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 disks can be checked, and all named paths can be read, 1 not so, 3 wrong usage.\n\n\
    Examples:\n  pathpulse doctor\n  pathpulse doctor /dev/sda /dev/sdb --format json"
)]
pub(crate) struct Args {
    /// What to examine as well: block devices, or files that take O_DIRECT
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How long a path may take to answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = args::duration)]
    timeout: Duration,
    /// How to print the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// All that was found. Its fields are the JSON document.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    #[serde(flatten)]
    environment: Environment,
    #[serde(flatten)]
    backends: Backends,
    io_uring: Option<RingReport>,
    held_processes: Vec<HeldReport>,
    paths: Vec<PathReport>,
    hints: Vec<Hint>,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    if args.paths.is_empty() {
        return examine(args);
    }
    apart::run(|| examine(args))
}

fn examine(args: &Args) -> Result<i32, Failure> {
    // Before the limits are raised, as every command does that checks.
    let environment = Environment::look();
    pathpulse_kernel_compat::raise_open_files_limit();
    let (backends, features) = backends::try_all();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        environment,
        backends,
        io_uring: features.as_ref().map(RingReport::new),
        held_processes: HeldReport::all(),
        paths: paths::examine(&args.paths, args.timeout),
        hints: Vec::new(),
    };
    report.hints = hints::all(&report);
    match args.format {
        Format::Json => output::print_json(&report),
        Format::Table => output::print(&tables::text(&report)),
    };
    Ok(report.exit_status())
}

impl Report {
    fn exit_status(&self) -> i32 {
        let works = self.backends.backend.is_some();
        let readable = self.paths.iter().all(|path| path.readable);
        if works && readable { 0 } else { FAILED }
    }
}
