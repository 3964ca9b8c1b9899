//! `pathpulse demo`: the engine at work on simulated disks.
//!
//! What the disks do is in `demo_disks.rs`, what is shown in `demo_screen.rs`.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{Config, Monitor, Settings};
use pathpulse_kernel_compat::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::demo_disks::{Stage, Troupe};
use super::demo_screen::Screen;
use super::{Failure, output};

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(600);
/// Plain files do nothing that would be worth watching for longer.
const PLAIN_SECONDS: u64 = 5;

/// Shows the engine at work on simulated disks
///
/// Healthy, slow, flapping, failing, hanging, saturated and recovering disks: real block devices
/// whose reads go where this process says. Needs root, /dev/fuse and /dev/loop-control; without
/// them plain temporary files are checked. All of it is removed at the end, after Ctrl-C too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo pathpulse demo\n  sudo pathpulse demo --seconds 60")]
pub(crate) struct Args {
    /// How long it takes
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let stop = stop_signals()?;
    let troupe = match Troupe::real() {
        Ok(troupe) => troupe,
        Err(reason) => {
            output::complain(&format!(
                "{reason}; plain temporary files are checked instead"
            ));
            Troupe::plain()?
        }
    };
    let seconds = if troupe.is_real() {
        args.seconds
    } else {
        args.seconds.min(PLAIN_SECONDS)
    };
    let shown = show(&troupe, Duration::from_secs(seconds), &stop);
    let cleared = troupe.clear();
    shown?;
    cleared?;
    Ok(0)
}

/// The first signal ends the show, the second the process: the disks' own processes clear up then.
fn stop_signals() -> Result<Receiver<()>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let (sender, stop) = channel();
    let told = move || {
        for signal in signals.forever() {
            if sender.send(()).is_err() {
                exit_now(128 + signal);
            }
        }
    };
    thread::Builder::new().spawn(told).map_err(failed)?;
    Ok(stop)
}

/// Watches the disks while they do what they have to.
fn show(troupe: &Troupe, length: Duration, stop: &Receiver<()>) -> Result<(), Failure> {
    let monitor = Monitor::start(Config {
        settings: Settings {
            interval: INTERVAL,
            timeout: TIMEOUT,
            ..Settings::default()
        },
        ..Config::default()
    })
    .map_err(|error| Failure::new(format!("no way to check paths: {error}")))?;
    let events = monitor.events(1_000);
    let paths: Vec<PathBuf> = troupe.paths();
    for answer in monitor.add_all(&paths, TIMEOUT) {
        if let Err(error) = answer {
            output::complain(&format!("not watched: {error}"));
        }
    }
    let mut screen = Screen::new();
    let start = Instant::now();
    let played = thread::scope(|scope| {
        // Commands to the disks may take a moment; the screen does not wait for them.
        let (end, ended) = channel::<()>();
        let stage = Stage::new(troupe, length);
        let actor = scope.spawn(move || stage.play(start, &ended));
        while start.elapsed() < length {
            screen.draw(&monitor, &events, troupe, start.elapsed());
            let pause = screen.pause().min(length.saturating_sub(start.elapsed()));
            if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        screen.draw(&monitor, &events, troupe, start.elapsed());
        drop(end);
        actor.join()
    });
    // What hangs is let go first, so that nothing of it stays behind.
    troupe.release();
    monitor.shutdown(Duration::from_millis(500));
    match played {
        Ok(result) => result,
        Err(_) => Err(Failure::new("the disks could not be commanded")),
    }
}
