//! How many completions one system call should wait for (pure).
//!
//! After a burst of submissions, taking completions one by one would cost a system call each. So a
//! wait asks for many, for [`LIMIT_US`] at the longest, and for fewer as soon as fewer come: what
//! is slow or hangs must not delay the word about what answers.

/// How long a batch may gather, in microseconds. It bounds what batching adds to the latencies
/// that are measured.
pub(crate) const LIMIT_US: u32 = 200;

/// At most so many completions are waited for at once.
const MAX: u32 = 256;

/// What is known of the last burst.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gather {
    /// Completions that the reads submitted since the last look will bring.
    fresh: u32,
    /// Completions of the last burst that have not come yet.
    young: u32,
    /// The last burst was waited for: what comes now is another.
    over: bool,
    /// What the last wait brought: the next won't bring more.
    pace: u32,
}

impl Gather {
    /// A read was queued that brings so many completions, all at nearly the same time.
    pub(crate) fn submitted(&mut self, completions: u32) {
        self.fresh += completions;
    }

    /// Takes completions that a read brings.
    pub(crate) fn ended(&mut self) {
        self.young = self.young.saturating_sub(1);
    }

    /// What is queued is handed to the kernel.
    pub(crate) fn sent(&mut self) {
        if self.fresh == 0 {
            return;
        }
        if std::mem::take(&mut self.over) {
            // What is left of an earlier burst is slow: it no longer counts.
            self.young = 0;
        }
        self.young += std::mem::take(&mut self.fresh);
        self.pace = MAX;
    }

    /// How many completions to wait for now: at least 1. While this is more, the wait needs a limit.
    pub(crate) fn want(&mut self) -> u32 {
        self.sent();
        self.over = true;
        self.young.min(self.pace).max(1)
    }

    /// The wait brought so many completions.
    pub(crate) fn came(&mut self, completions: u32) {
        self.pace = completions.min(MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(gather: &mut Gather, reads: u32) {
        for _ in 0..reads {
            gather.submitted(1);
        }
    }

    #[test]
    fn a_single_completion_is_not_delayed() {
        let mut gather = Gather::default();
        assert_eq!(gather.want(), 1);
        gather.submitted(1);
        assert_eq!(gather.want(), 1);
    }

    #[test]
    fn what_is_handed_over_bit_by_bit_is_one_burst() {
        let mut gather = Gather::default();
        for _ in 0..3 {
            burst(&mut gather, 20);
            gather.sent();
            for _ in 0..10 {
                gather.ended();
            }
        }
        assert_eq!(gather.want(), 30);
        burst(&mut gather, 2);
        assert_eq!(gather.want(), 2, "the next one counts alone");
    }

    #[test]
    fn a_burst_is_gathered_and_its_hanging_rest_is_not_waited_for() {
        let mut gather = Gather::default();
        burst(&mut gather, 1000);
        assert_eq!(gather.want(), MAX);
        for _ in 0..960 {
            gather.ended();
        }
        gather.came(MAX + 1);
        assert_eq!(gather.want(), 40);
        burst(&mut gather, 1000);
        gather.want();
        gather.came(1000);
        assert_eq!(gather.want(), MAX);
        gather.came(0);
        assert_eq!(gather.want(), 1);
    }

    #[test]
    fn reads_that_hang_since_earlier_do_not_count_in_a_new_burst() {
        let mut gather = Gather::default();
        burst(&mut gather, 500);
        gather.want();
        gather.came(0);
        burst(&mut gather, 1);
        assert_eq!(gather.want(), 1);
    }
}
