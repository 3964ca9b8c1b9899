//! The `pathpulse-chaos` program: see the library.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use pathpulse_chaos::{FaultMix, Limits, Options, Report, Run, Settings, Until, soak};

/// Injects faults into block devices and checks every event of the daemon against them
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit status: 0 no violations, 1 violations, 2 the run failed.\n\n\
    Examples:\n  pathpulse-chaos --faults 100000 --seed 7\n  pathpulse-chaos --soak 30m --backend aio"
)]
struct Args {
    /// Seed of the random faults; random if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Number of faults to inject
    #[arg(long, default_value_t = 5_000)]
    faults: u64,
    /// Inject faults for this long instead, and check that the daemon's resource usage does not
    /// grow
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "faults")]
    soak: Option<Duration>,
    /// Number of disks
    #[arg(long, default_value_t = 64)]
    devices: usize,
    /// Interval of the daemon's checks
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Timeout of the daemon's checks
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Consecutive bad checks that take a path down
    #[arg(long, value_name = "N", default_value_t = 1)]
    fall: u32,
    /// Consecutive good checks that bring it back
    #[arg(long, value_name = "N", default_value_t = 2)]
    rise: u32,
    /// Share of bad checks, per mille of the last hundred, above which a path is marginal; 1000 for
    /// never
    #[arg(long, value_name = "N", default_value_t = 100)]
    marginal_errors: u32,
    /// Number of falls within the window above which a path is marginal; 0 for never
    #[arg(long, value_name = "N", default_value_t = 3)]
    flaps: u32,
    /// Window for counting falls, see --flaps
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    flap_window: Duration,
    /// How long a marginal path must have no bad check
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    recovery: Duration,
    /// Backend of the daemon's reads
    #[arg(long, value_name = "NAME", default_value = "auto")]
    backend: String,
    /// Number of the daemon's worker threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u16,
    /// Let disks also fail with EOPNOTSUPP, like files without RWF_NOWAIT
    #[arg(long)]
    refuse: bool,
    /// Never remove disks
    #[arg(long)]
    no_vanish: bool,
    /// The daemon's binary; by default the one beside this binary
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

fn main() -> ExitCode {
    // The rig's other processes run this binary.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == "rig-server")
    {
        return pathpulse_faultdisk::serve_main(std::env::args_os().skip(2));
    }
    match run(Args::parse()) {
        Ok(report) => {
            let _ = write!(io::stdout(), "{report}");
            ExitCode::from(u8::from(!report.violations.is_empty()))
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "pathpulse-chaos: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> io::Result<Report> {
    pathpulse_faultdisk::available().map_err(io::Error::other)?;
    let program = args.program.map_or_else(default_program, Ok)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let _ = writeln!(io::stderr(), "seed {seed}");
    let options = Options {
        seed,
        disks: args.devices,
        daemon: Settings {
            program,
            limits: Limits {
                fall: args.fall,
                rise: args.rise,
                marginal_errors: args.marginal_errors,
                flaps: args.flaps,
                flap_window: args.flap_window,
                recovery: args.recovery,
                ..Limits::new(args.interval, args.timeout)
            },
            backend: args.backend,
            workers: args.workers,
        },
        mix: FaultMix {
            vanish: !args.no_vanish,
            refuse: args.refuse,
        },
    };
    let mut rig_server = Command::new("/proc/self/exe");
    rig_server.arg("rig-server");
    let mut run = Run::start(options, rig_server)?;
    match args.soak {
        Some(time) => soak(&mut run, time)?,
        None => run.inject(Until::Faults(args.faults))?,
    }
    run.end()
}

/// The daemon's binary, built together with this one.
fn default_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("pathpulse");
    if path.is_file() {
        return Ok(path);
    }
    let hint = "build it with `cargo build`, or set --program";
    Err(io::Error::other(format!("no {}: {hint}", path.display())))
}
