//! Starting threads.

use std::thread;

use super::stop::{Stopper, VitalThread};

/// Starts a thread.
///
/// # Errors
/// Why the kernel gives no thread, in one line.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name(format!("pathpulse-{name}"));
    let spawned = thread.spawn(work).map(drop);
    spawned.map_err(|error| format!("starting a thread: {error}; raise the limit of processes"))
}

/// Starts a thread whose panic ends the daemon. A service manager then restarts it; a daemon
/// without one of its threads would go on and do only a part of its work.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn spawn_vital(
    what: &'static str,
    stopper: &Stopper,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let stopper = stopper.clone();
    let vital = VitalThread { stopper, what };
    spawn(what, move || {
        let _vital = vital;
        work();
    })
}
