//! `aio-thread`: a design that was requested in the review of the shared contexts, and never built.
//! A thread for each context takes all completions and writes all results. It destroys the context
//! in the end, so that no other thread waits for it.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::aio::{self, Context};
use super::request::{Clock, Request};
use crate::contender::{Contender, Job, PathCounts};

/// Checkers that share a context and its thread.
const GROUP: usize = 1024;
/// How often a thread checks whether it should end.
const TICK: Duration = Duration::from_millis(100);

struct ThreadGroup {
    // Before the requests, because dropping it waits for all reads.
    context: Context,
    requests: Vec<Request>,
    clock: Clock,
    /// Reads of the sweep in flight.
    running: AtomicUsize,
    ending: AtomicBool,
    sweeper: Thread,
}

impl ThreadGroup {
    /// The main loop of the thread.
    fn reap(&self) {
        let mut buffer = aio::event_buffer();
        while !self.ending.load(Relaxed) {
            let events = self.context.reap(&mut buffer, TICK);
            for event in events {
                // SAFETY: requests exist until their context is destroyed.
                unsafe { Request::complete(event, &self.clock) };
            }
            let count = events.len();
            if count > 0 && self.running.fetch_sub(count, AcqRel) == count {
                self.sweeper.unpark();
            }
        }
    }

    fn begin(&self) {
        for request in self.requests.iter().filter(|request| !request.is_running()) {
            // Counted before, so that its completion can't come first.
            self.running.fetch_add(1, AcqRel);
            request.begin(&self.context, &self.clock);
            if request.was_refused() {
                self.running.fetch_sub(1, AcqRel);
            }
        }
    }
}

struct Threads {
    groups: Vec<Arc<ThreadGroup>>,
    timeout: Duration,
}

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    let mut groups = Vec::new();
    for paths in job.paths.chunks(GROUP) {
        let requests = paths.iter().map(|path| Request::open(path, job.timed));
        let group = Arc::new(ThreadGroup {
            requests: requests.collect::<Result<_, _>>()?,
            context: Context::setup(GROUP)?,
            clock: Clock::start(),
            running: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            sweeper: thread::current(),
        });
        let reaper = Arc::clone(&group);
        thread::Builder::new()
            .spawn(move || reaper.reap())
            .map_err(|error| format!("a thread: {error}"))?;
        groups.push(group);
    }
    Ok(Box::new(Threads {
        groups,
        timeout: job.timeout,
    }))
}

impl Contender for Threads {
    fn sweep(&mut self) {
        let end = Instant::now() + self.timeout;
        for group in &self.groups {
            group.begin();
        }
        for group in &self.groups {
            while group.running.load(Acquire) > 0 {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
        }
    }

    fn path_counts(&self) -> PathCounts {
        let requests = self.groups.iter().flat_map(|group| &group.requests);
        PathCounts::of(requests.map(Request::is_good))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        let requests = self.groups.iter().flat_map(|group| &group.requests);
        requests.map(Request::latency_us).collect()
    }

    /// Those of all threads, without two per sweep with which the threads wait for each other.
    fn syscalls(&self) -> Option<u64> {
        Some(aio::calls())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for group in &self.groups {
            group.ending.store(true, Relaxed);
        }
    }
}
