//! The progress of a benchmark, and its stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::BenchError;

/// A progress bar, if stderr is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn new(steps: usize, stop: &Arc<AtomicBool>) -> Progress {
        let bar = ProgressBar::new(steps as u64);
        // An invalid template would be noticed during development.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {elapsed} {msg}") {
            bar.set_style(style);
        }
        Progress {
            bar,
            stop: Arc::clone(stop),
        }
    }

    /// Starts the next step.
    ///
    /// # Errors
    /// The benchmark was stopped. The caller then removes what it created.
    pub(crate) fn step(&self, what: &str) -> Result<(), BenchError> {
        if self.stop.load(Relaxed) {
            return Err(BenchError("stopped".to_owned()));
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
