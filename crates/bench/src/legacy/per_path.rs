//! `aio-per-path`: a context for every path, as the directio checker did before 2020.

use std::time::{Duration, Instant};

use super::aio::{self, Context, Event};
use super::request::{Clock, Request};
use crate::contender::{Contender, Job, Tally};

/// How long it waits when none has answered.
const TICK: Duration = Duration::from_millis(1);

struct PerPath {
    // Before the requests: dropping a context waits for its reads.
    contexts: Vec<Context>,
    requests: Vec<Request>,
    timeout: Duration,
    clock: Clock,
    room: Vec<Event>,
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
        room: aio::room(),
    }))
}

impl Contender for PerPath {
    fn sweep(&mut self) {
        let end = Instant::now() + self.timeout;
        for (context, request) in self.contexts.iter().zip(&self.requests) {
            request.begin(context, &self.clock);
        }
        // One that does not answer must not keep the others waiting, so all are asked in turn.
        let mut pause = Duration::ZERO;
        loop {
            let mut waits = false;
            let mut came = 0;
            for (context, request) in self.contexts.iter().zip(&self.requests) {
                if request.is_running() {
                    let limit = std::mem::take(&mut pause);
                    let events = context.reap(&mut self.room, limit);
                    came += events.len();
                    for event in events {
                        // SAFETY: the requests are there as long as their contexts.
                        unsafe { Request::complete(event, &self.clock) };
                    }
                    waits |= request.is_running();
                }
            }
            if !waits || Instant::now() >= end {
                break;
            }
            if came == 0 {
                pause = TICK;
            }
        }
    }

    fn tally(&self) -> Tally {
        Tally::of(self.requests.iter().map(Request::is_good))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        self.requests.iter().map(Request::latency_us).collect()
    }

    fn syscalls(&self) -> Option<u64> {
        Some(aio::calls())
    }
}
