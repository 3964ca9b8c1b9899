//! Faults for a long time, and whether the daemon uses no more afterwards than before.
//!
//! The first quarter warms up: until then the allocator, the history of events and the backend grow
//! to what they need. What is used after that, with all disks well, is what it has to come back to:
//! descriptors, threads and stuck reads exactly, memory but for what an allocator keeps in places
//! that it got back piecemeal.

use std::io;
use std::time::Duration;

use crate::run::{Run, Until};
use crate::usage::Usage;

/// Threads of the kernel for io_uring leave after 5 s without work.
const RETURN: Duration = Duration::from_secs(12);
/// For how long nothing happens before usage is looked at.
const CALM: Duration = Duration::from_secs(1);
/// What memory may grow by between two times of calm.
const RSS_KIB: u64 = 1024;
const RSS_PER_CENT: u64 = 10;

/// Injects faults for so long in all.
///
/// # Errors
/// As [`Run::inject`].
pub fn soak(run: &mut Run, time: Duration) -> io::Result<()> {
    run.inject(Until::Passed(time / 4))?;
    run.rest(RETURN)?;
    let before = run.sample()?;
    run.figures_mut().usage_first = before;
    run.inject(Until::Passed(time - time / 4))?;
    let mut rested = Duration::ZERO;
    let mut after = run.sample()?;
    while !is_back(before, after) && rested < RETURN {
        run.rest(CALM)?;
        rested += CALM;
        after = run.sample()?;
    }
    if !is_back(before, after) {
        let wrong = format!("the daemon used {before}, and with all disks well again {after}");
        run.figures_mut().wrong.push(wrong);
    }
    Ok(())
}

fn is_back(before: Usage, after: Usage) -> bool {
    let rss_kib = before.rss_kib + before.rss_kib * RSS_PER_CENT / 100 + RSS_KIB;
    after.descriptors <= before.descriptors
        && after.threads <= before.threads
        && after.stuck == 0
        && after.rss_kib <= rss_kib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_noticed() {
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
