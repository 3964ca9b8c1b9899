//! The contract of `backend.rs`, as scenarios that every backend has to pass.
//!
//! `scenarios` holds the script, one function per scenario, which knows no backend; `contenders` lists the
//! backends, one entry each, with what the kernel forces on them; `lab` joins the two: an open backend and disks that
//! behave as told, real ones or, for the scripted backend, made up. What only one interface of the kernel has
//! (`uring_facts`, `aio_facts`) is tested beside, `choice` has what is left where the better ones are forbidden, and
//! `isolated` disks that may block their submitter beside others.

mod aio_facts;
mod child;
mod choice;
mod contenders;
mod isolated;
mod lab;
mod ledger;
mod scenarios;
mod scripted;
mod uring_facts;
mod world;

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use contenders::{CONTENDERS, Contender};
use scenarios::{SCENARIOS, Scenario};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args
        .next()
        .and_then(|role| role.into_string().ok())
        .as_deref()
    {
        Some(world::RIG_ROLE) => return pathpulse_faultdisk::serve_main(args),
        Some(child::ROLE) => return child::main(args),
        _ => {}
    }
    let mut trials: Vec<Trial> = CONTENDERS
        .iter()
        .flat_map(|contender| {
            let fits = |scenario: &&Scenario| contender.is_real() || !scenario.needs_kernel;
            SCENARIOS
                .iter()
                .filter(fits)
                .map(move |scenario| trial(contender, scenario))
        })
        .collect();
    trials.extend(uring_facts::trials());
    trials.extend(aio_facts::trials());
    trials.extend(choice::trials());
    trials.extend(isolated::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One scenario with one backend.
fn trial(contender: &'static Contender, scenario: &'static Scenario) -> Trial {
    let name = format!("{}::{}", contender.name, scenario.name);
    on_a_new_thread(
        name,
        move || contender.missing(),
        move || (scenario.run)(contender),
    )
}

/// A test with a thread of its own: rings leave kernel threads and registrations behind in theirs. Skipped, with the
/// reason, if something is missing.
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

/// Ends the whole test process if a trial takes too long: a backend that blocks would block the run for ever. (The
/// fault disks release what they hold once this process is going.)
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

/// Says that a test could not be made here, and why.
fn skip(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}
