//! What a contender is: something that checks a set of paths, again and again.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a contender is to check.
#[derive(Clone, Debug)]
pub struct Job {
    /// The paths; the same one may be in it more than once, and is opened each time.
    pub paths: Vec<PathBuf>,
    /// How long a check may take.
    pub timeout: Duration,
    /// Whether the latency of each check is wanted. Reading the clock costs, and some don't need it.
    pub timed: bool,
}

/// What the last sweep showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Paths that answered.
    pub good: u64,
    /// Paths that answered with an error, too little, not in time, or have no verdict.
    pub bad: u64,
}

impl Tally {
    /// Adds up paths, of which each is good or not.
    pub fn of(paths: impl IntoIterator<Item = bool>) -> Tally {
        let mut tally = Tally::default();
        for good in paths {
            *(if good {
                &mut tally.good
            } else {
                &mut tally.bad
            }) += 1;
        }
        tally
    }
}

/// Checks its paths. Dropping it gives everything back to the kernel, as its design has it: that is
/// the teardown that is measured.
pub trait Contender {
    /// Checks every path once. Returns when each has its verdict.
    ///
    /// The first sweep may have been made when the contender was opened, if its design is so.
    fn sweep(&mut self);

    /// What the last sweep showed.
    fn tally(&self) -> Tally;

    /// How long each path's last check took, in microseconds; `None` where it was not good. Empty
    /// if the job was not timed.
    fn latencies_us(&self) -> Vec<Option<u64>>;

    /// How long after its own deadline each verdict came that is not good because nothing answered, in
    /// microseconds. Empty if the contender does not know when it began each of its checks.
    fn lateness_us(&self) -> Vec<u64> {
        Vec::new()
    }

    /// System calls made so far to check, if the contender can count them.
    fn syscalls(&self) -> Option<u64>;
}

/// A contender that can be opened.
#[derive(Clone, Copy)]
pub struct Entrant {
    /// Its name in every report.
    pub name: &'static str,
    /// Opens it.
    pub open: fn(&Job) -> Result<Box<dyn Contender>, String>,
}
