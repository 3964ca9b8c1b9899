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
    /// Reads submitted since the last wait.
    fresh: u32,
    /// Reads of the last burst that have not ended yet.
    young: u32,
    /// What the last wait brought: the next won't bring more.
    pace: u32,
    /// Completions that come anyway, of the timeouts of reads that have ended: the kernel posts them
    /// when it is entered next, and they must not be taken for what is waited for.
    owed: u32,
    wanted: u32,
}

impl Gather {
    /// A read was queued.
    pub(crate) fn submitted(&mut self) {
        self.fresh += 1;
    }

    /// A read ended.
    pub(crate) fn ended(&mut self) {
        self.young = self.young.saturating_sub(1);
    }

    /// A read ended whose timeout has yet to complete.
    pub(crate) fn owe(&mut self) {
        self.owed += 1;
    }

    /// The timeout of a read that ended earlier has completed.
    pub(crate) fn repaid(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// How many completions to wait for now: at least 1. While this is more, the wait needs a limit.
    pub(crate) fn want(&mut self) -> u32 {
        if self.fresh > 0 {
            // What is left of an earlier burst is slow: it no longer counts.
            self.young = std::mem::take(&mut self.fresh);
            self.pace = MAX;
        }
        self.wanted = match self.young.min(self.pace) {
            // A limit of its own for the wait would cost more than a wake-up for what is owed.
            0 | 1 => 1,
            young => self.owed + young.min(MAX),
        };
        self.wanted
    }

    /// The wait brought so many completions.
    pub(crate) fn came(&mut self, completions: u32) {
        self.pace = completions;
        if completions < self.wanted {
            // Whatever was owed did not come in time either: never count on it again.
            self.owed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_read_is_not_delayed() {
        let mut gather = Gather::default();
        assert_eq!(gather.want(), 1);
        gather.submitted();
        assert_eq!(gather.want(), 1);
    }

    #[test]
    fn what_comes_anyway_is_not_taken_for_what_is_waited_for() {
        let mut gather = Gather::default();
        for _ in 0..10 {
            gather.submitted();
        }
        assert_eq!(gather.want(), 10);
        gather.came(10);
        for _ in 0..10 {
            gather.ended();
            gather.owe();
            gather.submitted();
        }
        assert_eq!(gather.want(), 20, "ten timeouts, and ten new reads");
        gather.came(19);
        gather.submitted();
        gather.submitted();
        assert_eq!(
            gather.want(),
            2,
            "what did not come in time is not counted on"
        );
    }

    #[test]
    fn a_burst_is_gathered_and_its_hanging_rest_is_not_waited_for() {
        let mut gather = Gather::default();
        for _ in 0..1000 {
            gather.submitted();
        }
        assert_eq!(gather.want(), MAX);
        for _ in 0..960 {
            gather.ended();
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
            gather.submitted();
        }
        gather.want();
        gather.came(0);
        gather.submitted();
        assert_eq!(gather.want(), 1);
    }
}
