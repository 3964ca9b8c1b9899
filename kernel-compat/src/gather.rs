//! How many completions one system call should wait for (pure).
//!
//! After a burst of submissions, taking completions one by one would cost a system call each. So a
//! wait asks for many, for [`LIMIT_US`] at the longest, and for fewer as soon as fewer come: what
//! is slow or hangs must not delay the word about what answers.

/// How long a batch may gather, in microseconds. It bounds what batching adds to the latencies
/// that are measured.
pub(crate) const LIMIT_US: u32 = 200;

/// At most so many completions are waited for at once.
const MAX: u32 = 128;

/// What is known of the last burst.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gather {
    /// Completions of what was submitted since the last wait.
    fresh: u32,
    /// Those of the last burst that have not come yet.
    young: u32,
    /// What the last wait brought: the next won't bring more.
    pace: u32,
}

impl Gather {
    /// A read was queued, which will make so many completions at nearly the same time.
    pub(crate) fn submitted(&mut self, completions: u32) {
        self.fresh += completions;
    }

    /// A read ended, of so many completions.
    pub(crate) fn ended(&mut self, completions: u32) {
        self.young = self.young.saturating_sub(completions);
    }

    /// How many completions to wait for now: at least 1.
    pub(crate) fn want(&mut self) -> u32 {
        if self.fresh > 0 {
            // What is left of an earlier burst is slow: it no longer counts.
            self.young = std::mem::take(&mut self.fresh);
            self.pace = MAX;
        }
        self.young.min(self.pace).clamp(1, MAX)
    }

    /// The wait brought so many completions.
    pub(crate) fn came(&mut self, completions: u32) {
        self.pace = completions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_completions_of_a_single_read_are_gathered() {
        let mut gather = Gather::default();
        assert_eq!(gather.want(), 1);
        gather.submitted(2);
        assert_eq!(gather.want(), 2);
        gather.came(0);
        assert_eq!(gather.want(), 1, "it is slow: its own completion is enough");
    }

    #[test]
    fn a_burst_is_gathered_and_its_hanging_rest_is_not_waited_for() {
        let mut gather = Gather::default();
        for _ in 0..1000 {
            gather.submitted(2);
        }
        assert_eq!(gather.want(), MAX);
        for _ in 0..980 {
            gather.ended(2);
        }
        gather.came(MAX);
        assert_eq!(gather.want(), 40);
        gather.came(0);
        assert_eq!(gather.want(), 1);
    }

    #[test]
    fn reads_that_hang_since_earlier_do_not_count_in_a_new_burst() {
        let mut gather = Gather::default();
        for _ in 0..500 {
            gather.submitted(2);
        }
        gather.want();
        gather.came(0);
        gather.submitted(2);
        assert_eq!(gather.want(), 2);
    }
}
