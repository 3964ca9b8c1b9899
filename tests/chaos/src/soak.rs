//! Injects faults for a long time, and checks that the daemon's resource usage does not grow.
//!
//! The first quarter is the warm-up: the allocator, the event history and the backend grow to the
//! size that they need. The usage after that, with all disks healthy, is the baseline. Descriptors,
//! threads and stuck reads have to return to it exactly, and memory within the fragmentation of the
//! allocator.

use std::io;
use std::time::Duration;

use crate::run::{Run, Until};
use crate::usage::Usage;

/// Kernel threads of io_uring end after 5 s without work.
const SETTLE_TIME: Duration = Duration::from_secs(12);
/// The length of a pause before usage is measured.
const PAUSE: Duration = Duration::from_secs(1);
/// How much memory may grow between two measurements.
const RSS_KIB: u64 = 1024;
const RSS_PERCENT: u64 = 10;

/// Injects faults for this total time.
///
/// # Errors
/// As [`Run::inject`].
pub fn soak(run: &mut Run, time: Duration) -> io::Result<()> {
    run.inject(Until::Passed(time / 4))?;
    run.observe(SETTLE_TIME)?;
    let before = run.sample()?;
    run.report_mut().usage_first = before;
    run.inject(Until::Passed(time - time / 4))?;
    let mut paused = Duration::ZERO;
    let mut after = run.sample()?;
    while !is_back(before, after) && paused < SETTLE_TIME {
        run.observe(PAUSE)?;
        paused += PAUSE;
        after = run.sample()?;
    }
    if !is_back(before, after) {
        let violation =
            format!("the daemon's usage grew from {before} to {after}, with all disks healthy");
        run.report_mut().violations.push(violation);
    }
    Ok(())
}

fn is_back(before: Usage, after: Usage) -> bool {
    let rss_kib = before.rss_kib + before.rss_kib * RSS_PERCENT / 100 + RSS_KIB;
    after.descriptors <= before.descriptors
        && after.threads <= before.threads
        && after.stuck == 0
        && after.rss_kib <= rss_kib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_are_detected() {
        let before = Usage {
            rss_kib: 10_000,
            descriptors: 20,
            threads: 9,
            stuck: 0,
        };
        assert!(is_back(before, before));
        let leaks = [
            Usage {
                rss_kib: 13_000,
                ..before
            },
            Usage {
                descriptors: 21,
                ..before
            },
            Usage {
                threads: 10,
                ..before
            },
            Usage { stuck: 1, ..before },
        ];
        for after in leaks {
            assert!(!is_back(before, after), "{after}");
        }
    }
}
