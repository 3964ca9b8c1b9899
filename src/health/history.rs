//! What the counters of a device showed, sample after sample (pure: no clock, no I/O).
//!
//! A check adds a sample whenever it asks the counters. From these the history derives whether the
//! device makes progress, and since when it has made none. The module documentation of
//! `health/evidence.rs` defines progress for stacked devices.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono};

use crate::health::{Activity, Counters, Layout, Leaf};

/// What is known of one disk from earlier samples.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DiskHistory {
    name: String,
    completed: u64,
    /// It held requests at the last sample.
    has_requests: bool,
    /// It has completed nothing since then, as far as known.
    since: Mono,
    /// This check has sampled it.
    sampled: bool,
    /// When this check last saw it complete requests.
    progressed_at: Option<Mono>,
}

/// What the samples of a device showed. The next check uses it, too: a device that dies while a
/// check finds it busy has had its time once the timeout has passed since its last completion, not
/// only at the end of the next check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    disks: Vec<DiskHistory>,
    /// By the last sample, device-mapper has suspended the device or one below it.
    pub(super) suspended: bool,
    /// The device completed requests within the last timeout.
    pub(super) progresses: bool,
    /// By the last sample, all disks hold nothing.
    pub(super) is_idle: bool,
    /// Number of samples in this check.
    pub(super) samples: u32,
    no_progress_since: Option<Mono>,
    /// The error of this check's own read of one block, which may be the only bad block.
    pub(crate) block_error: Option<Errno>,
}

impl History {
    /// Begins another check. Idle disks are forgotten, so that they have the full timeout again.
    pub(crate) fn begin_check(&mut self) {
        self.disks.retain(|disk| disk.has_requests);
        for disk in &mut self.disks {
            (disk.sampled, disk.progressed_at) = (false, None);
        }
        *self = History {
            disks: std::mem::take(&mut self.disks),
            no_progress_since: self.no_progress_since,
            ..History::default()
        };
    }

    /// Whether the next check needs this history. It does if a disk holds requests. If the read is
    /// stuck it always does, since the next check continues with the same read and a busy disk may
    /// hold nothing at the moment.
    pub(crate) fn is_worth_keeping(&self, is_stuck: bool) -> bool {
        self.samples > 0 && (is_stuck || self.disks.iter().any(|disk| disk.has_requests))
    }

    /// Adds a sample, in a check that began at `begun` and may take `timeout`.
    pub(crate) fn observe(&mut self, now: &Activity, begun: Mono, at: Mono, timeout: Duration) {
        self.record(&now.layout, begun, at);
        self.samples += 1;
        self.suspended = now.suspended;
        self.is_idle = now.is_idle();
        self.no_progress_since = self.no_progress_start(&now.layout);
        self.progresses = self.is_progressing(&now.layout, at, timeout);
        debug_assert!(self.disks.iter().all(|disk| disk.since <= at));
    }

    /// Does not count inactivity of the device before `until`.
    pub(crate) fn discount_until(&mut self, until: Mono) {
        for disk in &mut self.disks {
            disk.since = disk.since.max(until);
        }
        self.no_progress_since = self.no_progress_since.map(|since| since.max(until));
    }

    /// Since when the device has held requests without completing any; `None` if it does not.
    pub(crate) fn no_progress_since(&self) -> Option<Mono> {
        self.no_progress_since
    }

    fn record(&mut self, layout: &Layout, begun: Mono, at: Mono) {
        let leaf = match layout {
            Layout::Leaf(leaf) => leaf,
            Layout::All(below) | Layout::Any(below) => {
                return below.iter().for_each(|one| self.record(one, begun, at));
            }
        };
        let Some(Counters {
            completed,
            in_flight,
        }) = leaf.counters
        else {
            return;
        };
        let has_requests = in_flight > 0;
        let Some(disk) = self.disks.iter_mut().find(|disk| disk.name == leaf.name) else {
            self.disks.push(DiskHistory {
                name: leaf.name.clone(),
                completed,
                has_requests,
                // Its activity before this check is unknown: it has all of this check's time.
                since: begun,
                sampled: true,
                progressed_at: None,
            });
            return;
        };
        // The number of failures is subtracted, so the count may decrease. Only a new maximum is
        // progress.
        let progressed = completed.wrapping_sub(disk.completed).cast_signed() > 0;
        if progressed {
            disk.completed = completed;
            disk.since = if disk.sampled { at } else { begun };
            disk.progressed_at = disk.sampled.then_some(at);
        } else if has_requests && !disk.has_requests {
            // It was idle and got requests since the last sample.
            disk.since = at;
        }
        (disk.has_requests, disk.sampled) = (has_requests, true);
    }

    fn disk_history(&self, leaf: &Leaf) -> Option<&DiskHistory> {
        self.disks.iter().find(|disk| disk.name == leaf.name)
    }

    fn no_progress_start(&self, layout: &Layout) -> Option<Mono> {
        match layout {
            Layout::Leaf(leaf) => {
                let holding = self.disk_history(leaf).filter(|disk| disk.has_requests);
                holding.map(|disk| disk.since)
            }
            Layout::All(below) => below
                .iter()
                .filter_map(|one| self.no_progress_start(one))
                .min(),
            // A disk that completed all its requests is as good as any other.
            Layout::Any(below) if below.iter().any(|one| self.has_finished(one)) => None,
            Layout::Any(below) => below
                .iter()
                .filter_map(|one| self.no_progress_start(one))
                .max(),
        }
    }

    fn has_finished(&self, layout: &Layout) -> bool {
        match layout {
            Layout::Leaf(leaf) => self
                .disk_history(leaf)
                .is_some_and(|disk| disk.progressed_at.is_some() && !disk.has_requests),
            Layout::All(below) => below.iter().all(|one| self.has_finished(one)),
            Layout::Any(below) => below.iter().any(|one| self.has_finished(one)),
        }
    }

    fn is_progressing(&self, layout: &Layout, at: Mono, timeout: Duration) -> bool {
        match layout {
            Layout::Leaf(leaf) => {
                let progressed_at = self.disk_history(leaf).and_then(|disk| disk.progressed_at);
                progressed_at.is_some_and(|then| at.since(then) < timeout)
            }
            Layout::All(below) => {
                let is_stalled = |since| at.since(since) >= timeout;
                below
                    .iter()
                    .any(|one| self.is_progressing(one, at, timeout))
                    && !below
                        .iter()
                        .any(|one| self.no_progress_start(one).is_some_and(is_stalled))
            }
            Layout::Any(below) => below
                .iter()
                .any(|one| self.is_progressing(one, at, timeout)),
        }
    }
}
