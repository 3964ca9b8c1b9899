//! Counters of lost events, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts events that were lost since the start.
#[derive(Debug, Default)]
pub(crate) struct EventCounters {
    lost: AtomicU64,
    hooks_lost: AtomicU64,
}

impl EventCounters {
    /// Counts events that were lost because too many came at once.
    pub(crate) fn count_lost(&self, lost: u64) {
        self.lost.fetch_add(lost, Relaxed);
    }

    /// Counts a program that was not run on an event.
    pub(crate) fn count_hook_lost(&self) {
        self.hooks_lost.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(crate) fn hooks_lost(&self) -> u64 {
        self.hooks_lost.load(Relaxed)
    }
}
