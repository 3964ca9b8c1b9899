//! Delayed jobs: one thread and a heap of jobs.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::client::lock;

/// The jobs, earliest first.
#[derive(Debug)]
pub(super) struct Timer<J> {
    jobs: Mutex<BinaryHeap<Entry<J>>>,
    earlier: Condvar,
}

#[derive(Debug)]
struct Entry<J> {
    at: Instant,
    job: J,
}

impl<J> Timer<J> {
    pub(super) fn new() -> Self {
        Self {
            jobs: Mutex::new(BinaryHeap::new()),
            earlier: Condvar::new(),
        }
    }

    pub(super) fn add(&self, at: Instant, job: J) {
        lock(&self.jobs).push(Entry { at, job });
        self.earlier.notify_one();
    }

    /// Removes the jobs for which `wanted` is true.
    pub(super) fn take(&self, mut wanted: impl FnMut(&J) -> bool) -> Vec<J> {
        let mut jobs = lock(&self.jobs);
        let (taken, kept): (Vec<_>, Vec<_>) = jobs.drain().partition(|entry| wanted(&entry.job));
        *jobs = kept.into();
        taken.into_iter().map(|entry| entry.job).collect()
    }

    /// Waits until a job is due and takes it.
    pub(super) fn next(&self) -> J {
        let mut jobs = lock(&self.jobs);
        loop {
            let Some(first) = jobs.peek() else {
                jobs = self
                    .earlier
                    .wait(jobs)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let pause = first.at.saturating_duration_since(Instant::now());
            if pause.is_zero()
                && let Some(entry) = jobs.pop()
            {
                return entry.job;
            }
            jobs = self
                .earlier
                .wait_timeout(jobs, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Reversed order by time, because `BinaryHeap` has its greatest element first.
impl<J> Ord for Entry<J> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl<J> PartialOrd for Entry<J> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<J> PartialEq for Entry<J> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<J> Eq for Entry<J> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn jobs_are_ordered_by_time_and_can_be_removed() {
        let timer = Timer::new();
        let now = Instant::now();
        for ms in [3, 1, 2] {
            timer.add(now + Duration::from_millis(ms), ms);
        }
        assert_eq!(timer.take(|&job| job == 2), [2]);
        assert_eq!((timer.next(), timer.next()), (1, 3));
    }
}
