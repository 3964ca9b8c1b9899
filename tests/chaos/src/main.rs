//! `pathpulse-chaos`: see the library.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use pathpulse_chaos::{Figures, Mix, Options, Run, Settings, Terms, Until, soak};

/// Injects faults into block devices and holds the daemon's every word against them
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit status: 0 nothing was wrong, 1 something was, 2 it could not be run.\n\n\
    Examples:\n  pathpulse-chaos --faults 100000 --seed 7\n  pathpulse-chaos --soak 30m --backend aio"
)]
struct Args {
    /// Of all chance; another one each time, if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Faults to inject
    #[arg(long, default_value_t = 5_000)]
    faults: u64,
    /// Inject faults for so long instead, and see that the daemon uses no more in the end
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "faults")]
    soak: Option<Duration>,
    /// Disks
    #[arg(long, default_value_t = 64)]
    devices: usize,
    /// The daemon's interval
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// The daemon's timeout
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Bad checks in a row that take a path down
    #[arg(long, value_name = "N", default_value_t = 1)]
    fall: u32,
    /// Good checks in a row that bring it back
    #[arg(long, value_name = "N", default_value_t = 2)]
    rise: u32,
    /// Bad checks, per mille of the last hundred, above which a path is marginal; 1000 for never
    #[arg(long, value_name = "N", default_value_t = 100)]
    marginal_errors: u32,
    /// Falls within the window above which a path is marginal; 0 for never
    #[arg(long, value_name = "N", default_value_t = 3)]
    flaps: u32,
    /// See flaps
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    flap_window: Duration,
    /// How long a marginal path has to be clean
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    recovery: Duration,
    /// What carries the daemon's reads
    #[arg(long, value_name = "NAME", default_value = "auto")]
    backend: String,
    /// The daemon's threads that check
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u16,
    /// Let disks answer with EOPNOTSUPP, too, as files without RWF_NOWAIT do
    #[arg(long)]
    refuse: bool,
    /// Pull no disks
    #[arg(long)]
    no_vanish: bool,
    /// The daemon's binary; the one beside this one, if it is not given
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

fn main() -> ExitCode {
    // The rig's other processes are this binary.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == "rig-server")
    {
        return pathpulse_faultdisk::serve_main(std::env::args_os().skip(2));
    }
    match run(Args::parse()) {
        Ok(figures) => {
            let _ = write!(io::stdout(), "{figures}");
            ExitCode::from(u8::from(!figures.wrong.is_empty()))
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "pathpulse-chaos: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> io::Result<Figures> {
    pathpulse_faultdisk::available().map_err(io::Error::other)?;
    let program = args.program.map_or_else(beside, Ok)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let _ = writeln!(io::stderr(), "seed {seed}");
    let options = Options {
        seed,
        disks: args.devices,
        daemon: Settings {
            program,
            terms: Terms {
                fall: args.fall,
                rise: args.rise,
                marginal_errors: args.marginal_errors,
                flaps: args.flaps,
                flap_window: args.flap_window,
                recovery: args.recovery,
                ..Terms::new(args.interval, args.timeout)
            },
            backend: args.backend,
            workers: args.workers,
        },
        mix: Mix {
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

/// The daemon's binary, built with this one.
fn beside() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("pathpulse");
    if path.is_file() {
        return Ok(path);
    }
    let hint = "build it with `cargo build`, or name it by --program";
    Err(io::Error::other(format!("no {}: {hint}", path.display())))
}
