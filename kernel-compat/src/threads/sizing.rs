//! How many threads a pool should have (pure).

use std::time::Duration;

use crate::Mono;

/// The pool starts this many threads without checking whether fewer are enough.
const INITIAL_THREADS: usize = 16;
/// A thread without work ends after this time. It is also the interval for finding surplus threads.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// Finds threads that are not needed, however the work is spread over all of them.
#[derive(Default)]
pub(super) struct IdleSurplus {
    since: Mono,
    /// The least number of idle threads since then.
    idle_least: usize,
    /// How many threads should end.
    ending: usize,
}

impl IdleSurplus {
    pub(super) fn observe(&mut self, idle: usize) {
        self.idle_least = self.idle_least.min(idle);
    }

    /// Whether the calling thread, which has nothing to do, should end. `idle` others are idle.
    pub(super) fn take_one(&mut self, idle: usize, now: Mono) -> bool {
        if now.since(self.since) >= IDLE {
            self.ending = self.idle_least;
            self.idle_least = idle;
            self.since = now;
        }
        let take = self.ending > 0;
        self.ending -= usize::from(take);
        take
    }
}

/// The input of `threads_to_start`.
pub(super) struct Load {
    pub(super) queued: usize,
    pub(super) idle: usize,
    pub(super) live: usize,
    pub(super) abandoned: usize,
    pub(super) max: usize,
    pub(super) stalled: bool,
}

/// How many threads to start.
pub(super) fn threads_to_start(load: &Load) -> usize {
    let lacking = load.queued.saturating_sub(load.idle);
    let allowed = load.max.saturating_sub(load.live);
    let more = match load.stalled {
        true => INITIAL_THREADS.max(load.live),
        false => INITIAL_THREADS.saturating_sub(load.live - load.abandoned),
    };
    lacking.min(more).min(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_end_as_were_always_idle() {
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let mut surplus = IdleSurplus::default();
        assert!(!surplus.take_one(9, at(11)), "no interval has passed");
        for idle in [9, 4, 7] {
            surplus.observe(idle);
        }
        assert!(!surplus.take_one(8, at(20)));
        let ended = (0..20).filter(|_| surplus.take_one(8, at(21))).count();
        assert_eq!(ended, 4);
        surplus.observe(0);
        assert!(!surplus.take_one(8, at(40)), "all threads were needed once");
    }

    #[test]
    fn few_threads_start_until_they_stall() {
        let load = |queued, idle, live, abandoned, stalled| Load {
            queued,
            idle,
            live,
            abandoned,
            max: 100,
            stalled,
        };
        assert_eq!(threads_to_start(&load(1, 0, 0, 0, false)), 1);
        assert_eq!(
            threads_to_start(&load(1000, 0, 0, 0, false)),
            INITIAL_THREADS
        );
        assert_eq!(
            threads_to_start(&load(1000, 0, INITIAL_THREADS, 0, false)),
            0
        );
        assert_eq!(
            threads_to_start(&load(1000, 0, INITIAL_THREADS, 0, true)),
            INITIAL_THREADS
        );
        assert_eq!(
            threads_to_start(&load(1000, 0, 2 * INITIAL_THREADS, 0, true)),
            2 * INITIAL_THREADS
        );
        assert_eq!(threads_to_start(&load(1000, 0, 80, 0, true)), 20);
        assert_eq!(threads_to_start(&load(1000, 0, 90, 90, false)), 10);
        assert_eq!(threads_to_start(&load(5, 5, 5, 0, true)), 0);
        assert_eq!(threads_to_start(&load(5, 0, 100, 100, true)), 0);
    }
}
