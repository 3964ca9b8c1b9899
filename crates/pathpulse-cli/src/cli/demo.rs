//! `pathpulse demo`: a live table of simulated disks.
//!
//! `demo_disks.rs` has the disks and their faults, `demo_screen.rs` the table.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{Config, Monitor, Settings};
use pathpulse_kernel_compat::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::demo_disks::{DemoDisks, FaultScript};
use super::demo_screen::Screen;
use super::{Failure, output};

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(600);
/// Plain files have no faults, so a short demo shows everything.
const PLAIN_SECONDS: u64 = 5;

/// Shows simulated disks with faults on a live table
///
/// The disks are healthy, slow, flapping, failing, hanging, saturated and recovering. They are real
/// block devices that this process serves, which needs root, /dev/fuse and /dev/loop-control.
/// Without these, the demo checks temporary files without faults. It removes everything at the end,
/// also after Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo pathpulse demo\n  sudo pathpulse demo --seconds 60")]
pub(crate) struct Args {
    /// Length of the demo in seconds
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let stop = stop_signals()?;
    let disks = match DemoDisks::simulated() {
        Ok(disks) => disks,
        Err(reason) => {
            output::print_error(&format!(
                "{reason}; the demo checks temporary files instead"
            ));
            DemoDisks::plain_files()?
        }
    };
    let seconds = if disks.have_faults() {
        args.seconds
    } else {
        args.seconds.min(PLAIN_SECONDS)
    };
    let shown = show(&disks, Duration::from_secs(seconds), &stop);
    let removed = disks.remove();
    shown?;
    removed?;
    Ok(0)
}

/// The first signal ends the demo, the second this process; the servers of the disks then clean up.
fn stop_signals() -> Result<Receiver<()>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let (sender, stop) = channel();
    let forward = move || {
        for signal in signals.forever() {
            if sender.send(()).is_err() {
                exit_now(128 + signal);
            }
        }
    };
    thread::Builder::new().spawn(forward).map_err(failed)?;
    Ok(stop)
}

/// Watches the disks while their faults come and go.
fn show(disks: &DemoDisks, length: Duration, stop: &Receiver<()>) -> Result<(), Failure> {
    let monitor = Monitor::start(Config {
        settings: Settings {
            interval: INTERVAL,
            timeout: TIMEOUT,
            ..Settings::default()
        },
        ..Config::default()
    })
    .map_err(|error| Failure::new(format!("cannot check paths: {error}")))?;
    let events = monitor.events(1_000);
    let paths: Vec<PathBuf> = disks.paths();
    for answer in monitor.add_all(&paths, TIMEOUT) {
        if let Err(error) = answer {
            output::print_error(&format!("not watched: {error}"));
        }
    }
    let mut screen = Screen::new();
    let start = Instant::now();
    let faults = thread::scope(|scope| {
        // Setting a fault may take a moment, and the screen does not wait for that.
        let (end, ended) = channel::<()>();
        let script = FaultScript::new(disks, length);
        let script = scope.spawn(move || script.run(start, &ended));
        while start.elapsed() < length {
            screen.draw(&monitor, &events, disks, start.elapsed());
            let pause = screen.pause().min(length.saturating_sub(start.elapsed()));
            if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        screen.draw(&monitor, &events, disks, start.elapsed());
        drop(end);
        script.join()
    });
    // Hanging reads are released first, so that no device stays behind.
    disks.release();
    monitor.shutdown(Duration::from_millis(500));
    match faults {
        Ok(result) => result,
        Err(_) => Err(Failure::new(
            "the thread that controls the disks has panicked; please report this bug",
        )),
    }
}
