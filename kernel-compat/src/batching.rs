//! How many completions one system call should wait for (pure).
//!
//! After a burst of submissions, fetching completions one by one would cost one system call each.
//! So a wait asks for many completions, for at most [`LIMIT_US`]. It asks for fewer as soon as
//! fewer arrive, because slow or hanging reads must not delay the results of the others.

/// How long a wait may collect completions, in microseconds. It bounds the latency that batching
/// adds to the measured latencies.
pub(crate) const LIMIT_US: u32 = 200;

/// The most completions that one wait asks for.
const MAX: u32 = 256;

/// State of the last burst.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batching {
    /// Completions expected from reads queued since the last submission.
    queued: u32,
    /// Completions of the last burst that have not arrived yet.
    outstanding: u32,
    /// A wait for the last burst was made, so the next submission starts a new burst.
    waited: bool,
    /// The number of completions of the last wait. The next wait asks for no more.
    last_count: u32,
}

impl Batching {
    /// A read was queued that makes this many completions, all at nearly the same time.
    pub(crate) fn submitted(&mut self, completions: u32) {
        self.queued += completions;
    }

    /// One completion of a read was taken.
    pub(crate) fn completed(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// The queued reads are submitted to the kernel.
    pub(crate) fn flushed(&mut self) {
        if self.queued == 0 {
            return;
        }
        if std::mem::take(&mut self.waited) {
            // The rest of an earlier burst is slow: it no longer counts.
            self.outstanding = 0;
        }
        self.outstanding += std::mem::take(&mut self.queued);
        self.last_count = MAX;
    }

    /// How many completions to wait for: at least 1. A wait for more than 1 needs a time limit.
    pub(crate) fn want(&mut self) -> u32 {
        self.flushed();
        self.waited = true;
        self.outstanding.min(self.last_count).max(1)
    }

    /// The wait returned this many completions.
    pub(crate) fn reaped(&mut self, completions: u32) {
        self.last_count = completions.min(MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(batching: &mut Batching, reads: u32) {
        for _ in 0..reads {
            batching.submitted(1);
        }
    }

    #[test]
    fn a_single_completion_is_not_delayed() {
        let mut batching = Batching::default();
        assert_eq!(batching.want(), 1);
        batching.submitted(1);
        assert_eq!(batching.want(), 1);
    }

    #[test]
    fn submissions_without_a_wait_are_one_burst() {
        let mut batching = Batching::default();
        for _ in 0..3 {
            burst(&mut batching, 20);
            batching.flushed();
            for _ in 0..10 {
                batching.completed();
            }
        }
        assert_eq!(batching.want(), 30);
        burst(&mut batching, 2);
        assert_eq!(batching.want(), 2, "a new burst");
    }

    #[test]
    fn a_burst_is_batched_but_its_hanging_reads_are_not_awaited() {
        let mut batching = Batching::default();
        burst(&mut batching, 1000);
        assert_eq!(batching.want(), MAX);
        for _ in 0..960 {
            batching.completed();
        }
        batching.reaped(MAX + 1);
        assert_eq!(batching.want(), 40);
        burst(&mut batching, 1000);
        batching.want();
        batching.reaped(1000);
        assert_eq!(batching.want(), MAX);
        batching.reaped(0);
        assert_eq!(batching.want(), 1);
    }

    #[test]
    fn hanging_reads_of_an_earlier_burst_do_not_count() {
        let mut batching = Batching::default();
        burst(&mut batching, 500);
        batching.want();
        batching.reaped(0);
        burst(&mut batching, 1);
        assert_eq!(batching.want(), 1);
    }
}
