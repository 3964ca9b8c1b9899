//! `aio-group`: one context for 1,024 checkers. Whoever polls takes completions for all of its
//! group. A checker that is freed while its read goes on leaves that behind, an orphan, until its
//! completion is taken by another. Contexts are destroyed when all checkers are freed.

use std::time::{Duration, Instant};

use super::aio::{self, Context, Event};
use super::request::{Clock, Request};
use crate::contender::{Contender, Job, Tally};

/// Checkers that share a context.
const GROUP: usize = 1024;

#[expect(
    clippy::vec_box,
    reason = "the kernel has their addresses, also when checkers become orphans"
)]
struct Group {
    // Before the requests, as dropping it waits for all reads, orphans included.
    context: Context,
    checkers: Vec<Box<Request>>,
    /// Reads that went on when their checkers were freed.
    orphans: Vec<Box<Request>>,
}

struct Groups {
    groups: Vec<Group>,
    timeout: Duration,
    clock: Clock,
    room: Vec<Event>,
}

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    let mut groups = Vec::new();
    for paths in job.paths.chunks(GROUP) {
        let checkers = paths
            .iter()
            .map(|path| Request::open(path, job.timed).map(Box::new));
        groups.push(Group {
            checkers: checkers.collect::<Result<_, _>>()?,
            context: Context::setup(GROUP)?,
            orphans: Vec::new(),
        });
    }
    Ok(Box::new(Groups {
        groups,
        timeout: job.timeout,
        clock: Clock::start(),
        room: aio::room(),
    }))
}

impl Group {
    /// Takes what has completed, of whichever checker, and waits if nothing has.
    fn poll(&mut self, left: Duration, room: &mut [Event], clock: &Clock) {
        for event in self.context.reap(room, left) {
            // SAFETY: requests of checkers and orphans are there until their reads have ended.
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
            for place in 0..group.checkers.len() {
                while group.checkers[place].is_running() {
                    let left = end.saturating_duration_since(Instant::now());
                    group.poll(left, &mut self.room, &self.clock);
                    if left.is_zero() {
                        break;
                    }
                }
            }
        }
    }

    fn tally(&self) -> Tally {
        let checkers = self.groups.iter().flat_map(|group| &group.checkers);
        Tally::of(checkers.map(|checker| checker.is_good()))
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
        // The contexts follow, and each waits for its orphans.
    }
}
