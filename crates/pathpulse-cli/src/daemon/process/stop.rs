//! Signals, and stopping in time.
//!
//! A signal or a request over the socket asks for a stop. From then on the process has [`LIMIT`] in
//! any phase: then the watchdog, a thread that does nothing else, ends it. A second signal ends it
//! at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use pathpulse_kernel_compat::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The promise is one second from the signal to the end of the process. The rest of the second is
/// for the kernel to end the process.
const LIMIT: Duration = Duration::from_millis(850);

/// Messages to the main thread.
#[derive(Debug)]
pub(crate) enum MainMsg {
    /// Each path was opened or failed to open.
    Opened {
        /// How many are watched.
        watched: usize,
        /// How many are not open.
        unopened: usize,
        /// No path is open, and none can be opened later.
        hopeless: bool,
    },
    /// Stop.
    Stop {
        /// What asked for it.
        by: &'static str,
    },
    /// SIGHUP was received.
    Reload,
    /// A reload has succeeded or failed.
    Reloaded,
    /// A thread panicked that the daemon can't do without.
    Panicked {
        /// The name of the thread.
        what: &'static str,
    },
}

/// Sends messages to the main thread, and stops the daemon. Clones are the same handle.
#[derive(Clone, Debug)]
pub(crate) struct Stopper {
    messages: Sender<MainMsg>,
    watchdog: SyncSender<i32>,
    armed: Arc<AtomicBool>,
}

impl Stopper {
    /// Sends a message to the main thread.
    pub(crate) fn send(&self, message: MainMsg) {
        let _ = self.messages.send(message);
    }

    /// Stops the daemon, at the latest when [`LIMIT`] is over.
    pub(crate) fn stop(&self, by: &'static str) {
        self.arm(0);
        self.send(MainMsg::Stop { by });
    }

    /// Makes the watchdog end the process with this status after [`LIMIT`]. Only the first call has
    /// an effect.
    pub(crate) fn arm(&self, status: i32) {
        self.armed.store(true, Relaxed);
        let _ = self.watchdog.try_send(status);
    }

    /// Whether the watchdog will end the process.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }
}

/// Owned by a thread that the daemon can't do without: reports its panic.
#[derive(Debug)]
pub(crate) struct VitalThread {
    pub(crate) stopper: Stopper,
    pub(crate) what: &'static str,
}

impl Drop for VitalThread {
    fn drop(&mut self) {
        if thread::panicking() {
            self.stopper.send(MainMsg::Panicked { what: self.what });
        }
    }
}

/// Handles the signals and starts the watchdog. From here on a stop is in time, whatever the
/// process does.
pub(crate) fn prepare() -> io::Result<(Stopper, Receiver<MainMsg>)> {
    let (messages, inbox) = channel();
    let (watchdog, armed) = sync_channel(1);
    let spawn = |name: &str| thread::Builder::new().name(format!("pathpulse-{name}"));
    spawn("watchdog").spawn(move || {
        if let Ok(status) = armed.recv() {
            thread::sleep(LIMIT);
            exit_now(status);
        }
    })?;
    let stopper = Stopper {
        messages,
        watchdog,
        armed: Arc::default(),
    };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = stopper.clone();
    spawn("signals").spawn(move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => handle.send(MainMsg::Reload),
                _ if is_stopping => exit_now(128 + signal),
                SIGINT => handle.stop("SIGINT"),
                _ => handle.stop("SIGTERM"),
            }
            is_stopping |= signal != SIGHUP;
        }
    })?;
    Ok((stopper, inbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vital_thread_reports_its_panic_and_no_other_end() {
        let (messages, inbox) = channel();
        let (watchdog, _armed) = sync_channel(1);
        let stopper = Stopper {
            messages,
            watchdog,
            armed: Arc::default(),
        };
        for panics in [false, true] {
            let stopper = stopper.clone();
            let vital = VitalThread {
                stopper,
                what: "this",
            };
            let thread = thread::spawn(move || {
                let _vital = vital;
                assert!(!panics, "as it should");
            });
            assert_eq!(thread.join().is_err(), panics);
            let message = inbox.try_recv();
            assert_eq!(message.is_ok(), panics, "{message:?}");
        }
    }
}
