//! `pathpulse doctor`: which backends work on this kernel, which one is chosen, and what to
//! improve.
//!
//! # The JSON document
//!
//! Unknown and missing values are null; no field is ever left out.
//!
//! | field | what it is |
//! |---|---|
//! | `version` | version of pathpulse |
//! | `kernel` | `{system, release, version, machine}`, as uname(2) has them |
//! | `backend`, `reason` | the backend that `auto` chooses (null: none works), and the reason |
//! | `backends[]` | `{name, available, call, errno, hint}`, in the order in which `auto` tries them; `call`, `errno` (`"EPERM"`) and `hint` of a backend that is not available |
//! | `io_uring` | null if it is not available, else `{sq_entries, cq_entries, features[]}` |
//! | `io_uring.features[]` | `{name, state, since, brings}`; `state` is `in_use`, `missing` or `not_needed`, `since` the first Linux release that has it |
//! | `limits` | `{aio_nr, aio_max_nr, memlock_bytes, open_files}`, the last two `{soft, hard}`, null for no limit |
//! | `io_uring_disabled` | the sysctl kernel.io_uring_disabled; null before Linux 6.6 |
//! | `seccomp` | mode of this process: `off`, `strict`, `filter`; null if the kernel has no seccomp |
//! | `held_processes[]` | `{pid, since, devices}`: dead processes of pathpulse that the kernel holds until devices answer; `since` is null if unknown |
//! | `paths[]` | as in `check --format json` (`path, also, under, device, verdict, state, errno, latency_us, message`), plus `readable, nowait, submission, size_bytes, block_bytes, device_state, access_state, group, iostats`; empty without PATH |
//! | `hints[]` | `{about, hint}`: what to do about a backend, a limit or a path |

mod backends;
mod environment;
mod features;
mod held_processes;
mod hints;
mod paths;
mod tables;

use serde::Serialize;

use self::backends::Backends;
use self::environment::Environment;
use self::features::RingReport;
use self::held_processes::HeldProcess;
use self::hints::Hint;
use self::paths::ExaminedPath;
use super::args::{Format, FormatOption, KeyOptions, ReadPaths, TimeoutKey};
use super::{FAILED, Failure, output, subprocess};

/// Shows which backends work on this kernel, which one is chosen, and what to improve
///
/// Without PATH, no disk is read. Each PATH is read once, and details of its device are shown. The
/// command returns within the timeout plus 200 ms, whatever the devices do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 a backend works and each PATH is readable, 1 otherwise, 3 wrong usage.\n\n\
    Examples:\n  pathpulse doctor\n  pathpulse doctor /dev/sda /dev/sdb --format json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    paths: ReadPaths,
    #[command(flatten)]
    keys: KeyOptions<TimeoutKey>,
    #[command(flatten)]
    output: FormatOption,
}

/// The JSON document.
#[derive(Debug, Serialize)]
struct DoctorReport {
    version: &'static str,
    #[serde(flatten)]
    environment: Environment,
    #[serde(flatten)]
    backends: Backends,
    io_uring: Option<RingReport>,
    held_processes: Vec<HeldProcess>,
    paths: Vec<ExaminedPath>,
    hints: Vec<Hint>,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    if args.paths.paths.is_empty() {
        return examine(args);
    }
    subprocess::run(|| examine(args))
}

fn examine(args: &Args) -> Result<i32, Failure> {
    // It has the limits as they are before this process raises them.
    let environment = Environment::read();
    pathpulse_kernel_compat::raise_open_files_limit();
    let (backends, features) = backends::try_all();
    let mut report = DoctorReport {
        version: env!("CARGO_PKG_VERSION"),
        environment,
        backends,
        io_uring: features.as_ref().map(RingReport::new),
        held_processes: HeldProcess::all(),
        paths: paths::examine(&args.paths.paths, args.keys.given.settings().timeout),
        hints: Vec::new(),
    };
    report.hints = hints::all(&report);
    match args.output.format {
        Format::Json => output::print_json(&report),
        Format::Table => output::print(&tables::text(&report)),
    };
    Ok(report.exit_status())
}

impl DoctorReport {
    fn exit_status(&self) -> i32 {
        let works = self.backends.backend.is_some();
        let readable = self.paths.iter().all(|path| path.readable);
        if works && readable { 0 } else { FAILED }
    }
}
