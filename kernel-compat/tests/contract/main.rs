//! The contract of `backend.rs`, as scenarios that every backend has to pass.
//!
//! `scenarios` contains the script, one function per scenario, independent of a backend. `backends`
//! lists the backends, with the limits that the kernel imposes on each. `fixture` combines the two:
//! an open backend, and disks with configured behaviours, which are real or, for the scripted
//! backend, simulated. `uring_facts` and `aio_facts` test what only one kernel interface has,
//! `choice` tests which backend is chosen if better ones are forbidden, and `isolated` tests disks
//! that may block their submitter next to others.

mod aio_facts;
mod backends;
mod child;
mod choice;
mod disks;
mod end_checker;
mod fixture;
mod isolated;
mod scenarios;
mod scripted;
mod uring_facts;

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use backends::{BACKENDS, TestedBackend};
use scenarios::{SCENARIOS, Scenario};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args
        .next()
        .and_then(|role| role.into_string().ok())
        .as_deref()
    {
        Some(disks::RIG_ROLE) => return pathpulse_faultdisk::serve_main(args),
        Some(child::ROLE) => return child::main(args),
        _ => {}
    }
    let mut trials: Vec<Trial> = BACKENDS
        .iter()
        .flat_map(|tested| {
            let fits = |scenario: &&Scenario| tested.is_real() || !scenario.needs_kernel;
            SCENARIOS
                .iter()
                .filter(fits)
                .map(move |scenario| trial(tested, scenario))
        })
        .collect();
    trials.extend(uring_facts::trials());
    trials.extend(aio_facts::trials());
    trials.extend(choice::trials());
    trials.extend(isolated::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One scenario with one backend.
fn trial(tested: &'static TestedBackend, scenario: &'static Scenario) -> Trial {
    let name = format!("{}::{}", tested.name, scenario.name);
    on_a_new_thread(
        name,
        move || tested.missing(),
        move || (scenario.run)(tested),
    )
}

/// A test on its own thread, because rings leave kernel threads and registrations behind in their
/// thread. If something is missing, the test is skipped and the reason is printed.
fn on_a_new_thread(
    name: String,
    missing: impl FnOnce() -> Option<String> + Send + 'static,
    test: impl FnOnce() + Send + 'static,
) -> Trial {
    Trial::test(name.clone(), move || {
        let _watchdog = Watchdog::start(&name);
        let thread = thread::Builder::new().name(name.clone());
        let body = move || match missing() {
            Some(reason) => skip(&name, &reason),
            None => test(),
        };
        let thread = thread.spawn(body).expect("a thread");
        thread.join().map_err(|_| "it panicked, see above".into())
    })
}

/// Ends the whole test process if a trial takes too long: a backend that blocks would block the run
/// forever. (The fault disks release the reads that they hold when this process ends.)
struct Watchdog(#[allow(dead_code)] Sender<()>);

impl Watchdog {
    const LIMIT: Duration = Duration::from_secs(300);

    fn start(name: &str) -> Watchdog {
        let (alive, watched) = channel::<()>();
        let name = name.to_owned();
        thread::spawn(move || {
            if watched.recv_timeout(Self::LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = writeln!(std::io::stderr(), "HANGING {name}: giving up");
                pathpulse_kernel_compat::exit_now(101);
            }
        });
        Watchdog(alive)
    }
}

/// Reports that a test was skipped, and why.
fn skip(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}
