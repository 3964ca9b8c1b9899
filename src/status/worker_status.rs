//! The status of a worker. The worker writes it once per loop, any thread reads it, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pathpulse_kernel_compat::{Mono, Outcome, Stats, Words};

use crate::config::BackendInfo;

/// Status of a worker at one moment.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// The backend that submits its reads to the kernel.
    pub backend: BackendInfo,
    /// Number of its paths.
    pub paths: usize,
    /// How long the worker has been busy, or asleep beyond its wake-up time. More than a second
    /// means that it is blocked, or that this host is starved.
    pub overdue: Duration,
    /// The thread has ended although nobody stopped it.
    pub ended: bool,
    /// Delay between due time and start of its checks.
    pub lag: Lag,
    /// Counters of its backend.
    pub stats: Stats,
    /// How its reads ended.
    pub outcomes: Outcomes,
}

/// Delay between due time and start of checks, since the worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Number of checks that were begun on schedule.
    pub checks: u64,
    /// Sum of their delays, in microseconds.
    pub sum_us: u64,
    /// Longest delay, in microseconds.
    pub max_us: u64,
}

/// How reads ended, since the worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// With data or an error, before the deadline.
    pub answered: u64,
    /// Stuck: the deadline passed and the kernel could not cancel the read.
    pub stuck: u64,
    /// Cancelled before the device saw them: at the deadline, or when the path was removed.
    pub given_back: u64,
    /// Late: stuck reads that completed after their deadline.
    pub late: u64,
}

/// The words behind [`WorkerStatus`], in the memory of this process or in one shared with a reader.
pub(crate) struct Progress(Words);

/// When the worker is due to be awake; 0: it waits for commands only.
const WAKE: usize = 0;
/// 1 when the thread has ended.
const ENDED: usize = 1;
const PATHS: usize = 2;
/// Number of checks, sum and maximum of their delays.
const LAG: usize = 3;
const STATS: usize = LAG + 3;
const OUTCOMES: usize = STATS + 4;
/// Number of words of a worker's status.
pub(crate) const PROGRESS_WORDS: usize = OUTCOMES + 4;

impl Default for Progress {
    fn default() -> Progress {
        Progress(Words::on_heap(PROGRESS_WORDS))
    }
}

impl Progress {
    /// The status in these words, as they are.
    pub(crate) fn over(words: Words) -> Progress {
        assert_eq!(words.len(), PROGRESS_WORDS, "the words of a worker");
        Progress(words)
    }

    /// The worker waits until this time at most, or has been busy since this time.
    pub(crate) fn set_wake_at(&self, moment: Option<Mono>) {
        self.0[WAKE].store(moment.map_or(0, Mono::as_nanos), Relaxed);
    }

    /// The thread ends.
    pub(crate) fn set_ended(&self) {
        self.0[ENDED].store(1, Relaxed);
    }

    /// Publishes counters. Only the worker may call this and all other functions that write.
    pub(crate) fn publish(&self, paths: usize, stats: Stats) {
        self.0[PATHS].store(paths as u64, Relaxed);
        let all = [
            stats.in_flight as u64,
            stats.stuck as u64,
            stats.syscalls,
            stats.unknown_completions,
        ];
        for (cell, value) in self.0[STATS..].iter().zip(all) {
            cell.store(value, Relaxed);
        }
    }

    /// Records that checks began: how many, the sum of their delays, and the longest delay.
    pub(crate) fn record_lag(&self, checks: u64, sum: Duration, max: Duration) {
        let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        add(&self.0[LAG], checks);
        add(&self.0[LAG + 1], us(sum));
        if us(max) > self.0[LAG + 2].load(Relaxed) {
            self.0[LAG + 2].store(us(max), Relaxed);
        }
    }

    /// Counts the outcome of a read.
    pub(crate) fn count_outcome(&self, outcome: &Outcome) {
        let place = match outcome {
            Outcome::Read(_) | Outcome::Failed(_) => 0,
            Outcome::Expired(_) => 1,
            Outcome::NotStarted | Outcome::Cancelled => 2,
            Outcome::Late(_) => 3,
        };
        add(&self.0[OUTCOMES + place], 1);
    }

    /// The values of `N` words.
    fn loaded<const N: usize>(&self, first: usize) -> [u64; N] {
        std::array::from_fn(|nth| self.0[first + nth].load(Relaxed))
    }

    /// See [`WorkerStatus::overdue`].
    pub(crate) fn overdue(&self) -> Duration {
        match self.0[WAKE].load(Relaxed) {
            0 => Duration::ZERO,
            wake => Mono::now().since(Mono::from_nanos(wake)),
        }
    }

    pub(crate) fn snapshot(&self, backend: BackendInfo) -> WorkerStatus {
        let [checks, sum_us, max_us] = self.loaded(LAG);
        let [in_flight, stuck, syscalls, unknown_completions] = self.loaded(STATS);
        let [answered, still_stuck, given_back, ended_late] = self.loaded(OUTCOMES);
        WorkerStatus {
            backend,
            paths: self.0[PATHS].load(Relaxed) as usize,
            overdue: self.overdue(),
            ended: self.0[ENDED].load(Relaxed) != 0,
            lag: Lag {
                checks,
                sum_us,
                max_us,
            },
            stats: Stats {
                in_flight: in_flight as usize,
                stuck: stuck as usize,
                syscalls,
                unknown_completions,
            },
            outcomes: Outcomes {
                answered,
                stuck: still_stuck,
                given_back,
                late: ended_late,
            },
        }
    }
}

/// With one writer, a load and a store are enough, and cost less than an atomic addition.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pathpulse_kernel_compat::{BackendKind, Stage};

    fn backend() -> BackendInfo {
        BackendInfo {
            kind: BackendKind::Sync,
            features: None,
            unavailable: Vec::new(),
        }
    }

    #[test]
    fn readers_see_what_the_worker_writes() {
        let progress = Progress::default();
        let stats = Stats {
            in_flight: 1,
            stuck: 2,
            syscalls: 3,
            unknown_completions: 4,
        };
        progress.publish(5, stats);
        progress.record_lag(3, Duration::from_micros(60), Duration::from_micros(40));
        progress.record_lag(1, Duration::from_micros(7), Duration::from_micros(7));
        for outcome in [
            Outcome::Read(512),
            Outcome::Expired(Stage::Device),
            Outcome::Cancelled,
            Outcome::NotStarted,
            Outcome::Late(Ok(512)),
        ] {
            progress.count_outcome(&outcome);
        }
        let seen = progress.snapshot(backend());
        assert_eq!((seen.paths, seen.stats), (5, stats));
        let lag = Lag {
            checks: 4,
            sum_us: 67,
            max_us: 40,
        };
        assert_eq!(seen.lag, lag);
        let outcomes = Outcomes {
            answered: 1,
            stuck: 1,
            given_back: 2,
            late: 1,
        };
        assert_eq!(seen.outcomes, outcomes);
    }

    #[test]
    fn a_worker_is_overdue_after_its_wakeup_time_only() {
        let progress = Progress::default();
        assert_eq!(progress.snapshot(backend()).overdue, Duration::ZERO);
        progress.set_wake_at(Some(Mono::now() + Duration::from_secs(60)));
        assert_eq!(progress.snapshot(backend()).overdue, Duration::ZERO);
        progress.set_wake_at(Some(Mono::from_nanos(1)));
        assert!(progress.snapshot(backend()).overdue > Duration::ZERO);
        assert!(!progress.snapshot(backend()).ended);
        progress.set_ended();
        assert!(progress.snapshot(backend()).ended);
    }
}
