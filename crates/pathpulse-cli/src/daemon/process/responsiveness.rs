//! Whether the engine's workers are responsive.

use std::time::Duration;

use pathpulse::Monitor;

/// A worker that is later than this is not responsive. One pass of its loop takes milliseconds.
const OVERDUE_MAX: Duration = Duration::from_secs(2);

/// Checks that each worker is responsive.
///
/// # Errors
/// Which worker is not, and why, in one line.
pub(crate) fn check_workers(monitor: &Monitor) -> Result<(), String> {
    for (number, worker) in monitor.workers().iter().enumerate() {
        if worker.ended {
            return Err(format!("worker {number} has ended; the log may say why"));
        }
        if worker.overdue > OVERDUE_MAX {
            let late_ms = worker.overdue.as_millis();
            return Err(format!(
                "worker {number} has not responded for {late_ms} ms"
            ));
        }
    }
    Ok(())
}
