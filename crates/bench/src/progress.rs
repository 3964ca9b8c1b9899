//! How far a benchmark is, and whether it is to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::Refusal;

/// A bar, where stderr is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn new(steps: usize, stop: &Arc<AtomicBool>) -> Progress {
        let bar = ProgressBar::new(steps as u64);
        // A template that is wrong would be seen by whoever writes it.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {elapsed} {msg}") {
            bar.set_style(style);
        }
        Progress {
            bar,
            stop: Arc::clone(stop),
        }
    }

    /// Another step begins.
    ///
    /// # Errors
    /// When there is to be none: all that was made for the benchmark is to be removed then.
    pub(crate) fn step(&self, what: &str) -> Result<(), Refusal> {
        if self.stop.load(Relaxed) {
            return Err(Refusal("stopped".to_owned()));
        }
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
