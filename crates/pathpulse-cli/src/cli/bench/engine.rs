//! The engine as a contender: a [`Sweep`] with verdicts, states, status and latencies.

use std::time::{Duration, SystemTime};

use pathpulse::{BackendKind, Choice, State, Sweep};
use pathpulse_bench::{Contender, ContenderType, Job, PathCounts};

/// The engine over each of its backends, and over io_uring without linked timeouts.
pub(crate) const ENGINE: [ContenderType; 4] = [
    ContenderType {
        name: "pathpulse-io_uring",
        open: |job| open(job, Choice::Only(BackendKind::IoUring)),
    },
    ContenderType {
        name: "pathpulse-unlinked",
        open: |job| open(job, Choice::Unlinked),
    },
    ContenderType {
        name: "pathpulse-aio",
        open: |job| open(job, Choice::Only(BackendKind::Aio)),
    },
    ContenderType {
        name: "pathpulse-sync",
        open: |job| open(job, Choice::Only(BackendKind::Sync)),
    },
];

struct Engine {
    choice: Choice,
    sweep: Sweep,
    timeout: Duration,
    /// Opening a sweep checks all paths, which counts as the first sweep.
    is_new: bool,
}

fn open(job: &Job, choice: Choice) -> Result<Box<dyn Contender>, String> {
    let sweep = Sweep::new(&job.paths, job.timeout, choice);
    Ok(Box::new(Engine {
        choice,
        sweep: sweep.map_err(|error| error.to_string())?,
        timeout: job.timeout,
        is_new: true,
    }))
}

impl Contender for Engine {
    fn sweep(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            self.sweep.run();
        }
    }

    fn path_counts(&self) -> PathCounts {
        PathCounts::of(self.sweep.status().map(|path| path.state == State::Up))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        let last = |path: pathpulse::PathStatus| {
            let good = path.state == State::Up;
            path.latency_us.filter(|_| good).map(|latency| latency.last)
        };
        self.sweep.status().map(last).collect()
    }

    /// A path is unanswered since its check began, and down since the verdict.
    fn lateness_us(&self) -> Vec<u64> {
        let late = |path: pathpulse::PathStatus| {
            let down = SystemTime::now().duration_since(path.since).ok()?;
            let after = path.unanswered?.saturating_sub(down + self.timeout);
            (path.state == State::Down).then_some(after.as_micros() as u64)
        };
        self.sweep.status().filter_map(late).collect()
    }

    /// The engine does not count reads that threads make.
    fn syscalls(&self) -> Option<u64> {
        (self.choice != Choice::Only(BackendKind::Sync)).then(|| self.sweep.stats().syscalls)
    }
}
