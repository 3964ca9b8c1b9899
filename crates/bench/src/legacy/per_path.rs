//! `aio-per-path`: a context for every path, as in the directio checker before 2020.

use std::time::{Duration, Instant};

use super::aio::{self, Context, Event};
use super::request::{Clock, Request};
use crate::contender::{Contender, Job, PathCounts};

/// How long it waits if no path has answered.
const TICK: Duration = Duration::from_millis(1);

struct PerPath {
    // Before the requests: dropping a context waits for its reads.
    contexts: Vec<Context>,
    requests: Vec<Request>,
    timeout: Duration,
    clock: Clock,
    buffer: Vec<Event>,
}

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    let (mut contexts, mut requests) = (Vec::new(), Vec::new());
    for path in &job.paths {
        requests.push(Request::open(path, job.timed)?);
        contexts.push(Context::setup(1)?);
    }
    Ok(Box::new(PerPath {
        contexts,
        requests,
        timeout: job.timeout,
        clock: Clock::start(),
        buffer: aio::event_buffer(),
    }))
}

impl Contender for PerPath {
    fn sweep(&mut self) {
        let end = Instant::now() + self.timeout;
        for (context, request) in self.contexts.iter().zip(&self.requests) {
            request.begin(context, &self.clock);
        }
        // All contexts are polled in turn, so that a silent path does not delay the others.
        let mut pause = Duration::ZERO;
        loop {
            let mut waits = false;
            let mut completed = 0;
            for (context, request) in self.contexts.iter().zip(&self.requests) {
                if request.is_running() {
                    let limit = std::mem::take(&mut pause);
                    let events = context.reap(&mut self.buffer, limit);
                    completed += events.len();
                    for event in events {
                        // SAFETY: the requests live as long as their contexts.
                        unsafe { Request::complete(event, &self.clock) };
                    }
                    waits |= request.is_running();
                }
            }
            if !waits || Instant::now() >= end {
                break;
            }
            if completed == 0 {
                pause = TICK;
            }
        }
    }

    fn path_counts(&self) -> PathCounts {
        PathCounts::of(self.requests.iter().map(Request::is_good))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        self.requests.iter().map(Request::latency_us).collect()
    }

    fn syscalls(&self) -> Option<u64> {
        Some(aio::calls())
    }
}
