//! Being told to stop, and stopping in time.
//!
//! A stop is asked for by a signal or over the socket. From then on the process has [`LIMIT`], in
//! whatever phase it is: the watchdog, a thread that does nothing else, ends it then. A second
//! signal ends it at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use pathpulse_kernel_compat::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The promise is one second from the signal to the end of the process; this leaves some of it for
/// the kernel to take the process down.
const LIMIT: Duration = Duration::from_millis(850);

/// What the main thread is told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// All paths were tried to be opened.
    Opened {
        /// How many are watched.
        watched: usize,
        /// How many are waited for.
        waiting: usize,
        /// There is nothing to watch, and nothing that could come.
        hopeless: bool,
    },
    /// Stop.
    Stop {
        /// Who said so.
        by: &'static str,
    },
    /// SIGHUP came.
    Reload,
    /// A reload is over, whatever came of it.
    Reloaded,
    /// A thread that all depends on panicked.
    Broken {
        /// What it had to do.
        what: &'static str,
    },
}

/// Tells the main thread things, above all to stop. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Stopper {
    notices: Sender<Notice>,
    watchdog: SyncSender<i32>,
    armed: Arc<AtomicBool>,
}

impl Stopper {
    /// Tells the main thread something.
    pub(crate) fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// Asks for a stop, and sees to it that it happens.
    pub(crate) fn stop(&self, by: &'static str) {
        self.arm(0);
        self.tell(Notice::Stop { by });
    }

    /// From now on the process has [`LIMIT`], and then ends with this status; the first call counts.
    pub(crate) fn arm(&self, status: i32) {
        self.armed.store(true, Relaxed);
        let _ = self.watchdog.try_send(status);
    }

    /// Whether the end is near.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }
}

/// Kept by a thread without which the daemon is none: tells when that panics.
#[derive(Debug)]
pub(crate) struct Vital {
    pub(crate) stopper: Stopper,
    pub(crate) what: &'static str,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            self.stopper.tell(Notice::Broken { what: self.what });
        }
    }
}

/// Takes over the signals and starts the watchdog. From here on a stop is in time, whatever the
/// process does.
pub(crate) fn prepare() -> io::Result<(Stopper, Receiver<Notice>)> {
    let (notices, inbox) = channel();
    let (watchdog, armed) = sync_channel(1);
    let spawn = |name: &str| thread::Builder::new().name(format!("pathpulse-{name}"));
    spawn("watchdog").spawn(move || {
        if let Ok(status) = armed.recv() {
            thread::sleep(LIMIT);
            exit_now(status);
        }
    })?;
    let stopper = Stopper {
        notices,
        watchdog,
        armed: Arc::default(),
    };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let told = stopper.clone();
    spawn("signals").spawn(move || {
        let mut impatient = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => told.tell(Notice::Reload),
                _ if impatient => exit_now(128 + signal),
                SIGINT => told.stop("SIGINT"),
                _ => told.stop("SIGTERM"),
            }
            impatient |= signal != SIGHUP;
        }
    })?;
    Ok((stopper, inbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vital_thread_tells_of_its_panic_and_of_no_other_end() {
        let (notices, inbox) = channel();
        let (watchdog, _armed) = sync_channel(1);
        let stopper = Stopper {
            notices,
            watchdog,
            armed: Arc::default(),
        };
        for panics in [false, true] {
            let stopper = stopper.clone();
            let vital = Vital {
                stopper,
                what: "this",
            };
            let thread = thread::spawn(move || {
                let _vital = vital;
                assert!(!panics, "as it should");
            });
            assert_eq!(thread.join().is_err(), panics);
            let told = inbox.try_recv();
            assert_eq!(told.is_ok(), panics, "{told:?}");
        }
    }
}
