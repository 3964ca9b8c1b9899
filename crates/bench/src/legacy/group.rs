//! `aio-group`: one context for 1,024 checkers. A checker that polls takes completions for its
//! whole group. If a checker is freed during a read, the read stays behind as an orphan until
//! another checker takes its completion. Contexts are destroyed when all checkers are freed.

use std::time::{Duration, Instant};

use super::aio::{self, Context, Event};
use super::request::{Clock, Request};
use crate::contender::{Contender, Job, PathCounts};

/// Checkers that share a context.
const GROUP: usize = 1024;

#[expect(
    clippy::vec_box,
    reason = "the kernel has their addresses, also those of orphans"
)]
struct CheckerGroup {
    // Before the requests, because dropping it waits for all reads, including orphans.
    context: Context,
    checkers: Vec<Box<Request>>,
    /// Reads that were in flight when their checkers were freed.
    orphans: Vec<Box<Request>>,
}

struct Groups {
    groups: Vec<CheckerGroup>,
    timeout: Duration,
    clock: Clock,
    buffer: Vec<Event>,
}

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    let mut groups = Vec::new();
    for paths in job.paths.chunks(GROUP) {
        let checkers = paths
            .iter()
            .map(|path| Request::open(path, job.timed).map(Box::new));
        groups.push(CheckerGroup {
            checkers: checkers.collect::<Result<_, _>>()?,
            context: Context::setup(GROUP)?,
            orphans: Vec::new(),
        });
    }
    Ok(Box::new(Groups {
        groups,
        timeout: job.timeout,
        clock: Clock::start(),
        buffer: aio::event_buffer(),
    }))
}

impl CheckerGroup {
    /// Takes completions of any checker, and waits if there are none.
    fn poll(&mut self, left: Duration, buffer: &mut [Event], clock: &Clock) {
        for event in self.context.reap(buffer, left) {
            // SAFETY: requests of checkers and orphans exist until their reads have ended.
            unsafe { Request::complete(event, clock) };
        }
        self.orphans.retain(|orphan| orphan.is_running());
    }
}

impl Contender for Groups {
    fn sweep(&mut self) {
        let end = Instant::now() + self.timeout;
        for group in &self.groups {
            for checker in &group.checkers {
                checker.begin(&group.context, &self.clock);
            }
        }
        for group in &mut self.groups {
            for index in 0..group.checkers.len() {
                while group.checkers[index].is_running() {
                    let left = end.saturating_duration_since(Instant::now());
                    group.poll(left, &mut self.buffer, &self.clock);
                    if left.is_zero() {
                        break;
                    }
                }
            }
        }
    }

    fn path_counts(&self) -> PathCounts {
        let checkers = self.groups.iter().flat_map(|group| &group.checkers);
        PathCounts::of(checkers.map(|checker| checker.is_good()))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        let checkers = self.groups.iter().flat_map(|group| &group.checkers);
        checkers.map(|checker| checker.latency_us()).collect()
    }

    fn syscalls(&self) -> Option<u64> {
        Some(aio::calls())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &mut self.groups {
            let checkers = group.checkers.drain(..);
            let running = checkers.filter(|checker| checker.is_running());
            group.orphans.extend(running);
        }
        // Then the contexts are dropped, and each waits for its orphans.
    }
}
