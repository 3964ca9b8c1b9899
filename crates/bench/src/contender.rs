//! A contender: an implementation that checks a set of paths repeatedly.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a contender has to check.
#[derive(Clone, Debug)]
pub struct Job {
    /// The paths. A path may occur more than once, and is opened each time.
    pub paths: Vec<PathBuf>,
    /// How long a check may take.
    pub timeout: Duration,
    /// Whether to measure the latency of each check. Reading the clock costs time, which some
    /// benchmarks avoid.
    pub timed: bool,
}

/// The result of the last sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCounts {
    /// Paths that answered.
    pub good: u64,
    /// Paths that failed, returned too few bytes, did not answer in time, or have no verdict.
    pub bad: u64,
}

impl PathCounts {
    /// Counts good and bad paths.
    pub fn of(paths: impl IntoIterator<Item = bool>) -> PathCounts {
        let mut path_counts = PathCounts::default();
        for good in paths {
            *(if good {
                &mut path_counts.good
            } else {
                &mut path_counts.bad
            }) += 1;
        }
        path_counts
    }
}

/// Checks its paths. Dropping it releases everything to the kernel, in the way of its design. That
/// is the measured teardown.
pub trait Contender {
    /// Checks every path once. Returns when each path has its verdict.
    ///
    /// A design may already make the first sweep when the contender is opened.
    fn sweep(&mut self);

    /// The result of the last sweep.
    fn path_counts(&self) -> PathCounts;

    /// How long each path's last check took, in microseconds. `None` if it was not good. Empty if
    /// the job is not timed.
    fn latencies_us(&self) -> Vec<Option<u64>>;

    /// How late each verdict on a silent path was, in microseconds after its own deadline. Empty if
    /// the contender does not know when it started each check.
    fn lateness_us(&self) -> Vec<u64> {
        Vec::new()
    }

    /// System calls made so far for checks, if the contender can count them.
    fn syscalls(&self) -> Option<u64>;
}

/// A type of contender, which can be opened.
#[derive(Clone, Copy)]
pub struct ContenderType {
    /// Its name in every report.
    pub name: &'static str,
    /// Opens a contender of this type.
    pub open: fn(&Job) -> Result<Box<dyn Contender>, String>,
}
