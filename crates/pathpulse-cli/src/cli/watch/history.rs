//! The latencies of a path since the screen was started, as a line of bars.

use std::collections::VecDeque;

use crate::api::PathDocument;

/// As many latencies as a wide terminal shows.
const KEPT: usize = 120;
/// From the lowest to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The bar of checks without an answer.
pub(super) const NO_ANSWER: char = '×';

/// The latencies of one path.
#[derive(Debug, Default)]
pub(super) struct History {
    total: u64,
    answered: u64,
    /// In microseconds; `None` for checks without an answer.
    latencies: VecDeque<Option<u64>>,
}

impl History {
    /// Adds the latest latency, if the path was checked since the last call.
    pub(super) fn add(&mut self, path: &PathDocument) {
        let total = path.checks.total;
        let answered = path.checks.good + path.checks.busy;
        if total != self.total {
            let has_answered = answered != self.answered;
            let last = path.latency_us.map(|us| us.last);
            self.latencies.push_back(last.filter(|_| has_answered));
        }
        if self.latencies.len() > KEPT {
            self.latencies.pop_front();
        }
        (self.total, self.answered) = (total, answered);
    }

    /// The last latencies as bars, scaled to the largest of them.
    pub(super) fn bars(&self, columns: usize) -> String {
        let skipped = self.latencies.len().saturating_sub(columns);
        let shown = self.latencies.iter().skip(skipped);
        let largest = shown.clone().flatten().max().copied().unwrap_or(0).max(1);
        let bar = |us: u64| BARS[usize::try_from(us * 7 / largest).unwrap_or(7).min(7)];
        shown.map(|us| us.map_or(NO_ANSWER, bar)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::path;

    #[test]
    fn each_poll_with_a_new_check_adds_a_bar() {
        let mut history = History::default();
        let mut path = path("/dev/sda", "up");
        assert_eq!(history.bars(10), "");
        let mut check = |last: Option<u64>, path: &mut PathDocument| {
            path.checks.total += 1;
            if let (Some(last), Some(us)) = (last, &mut path.latency_us) {
                path.checks.good += 1;
                us.last = last;
            }
            history.add(path);
            history.add(path);
        };
        for last in [Some(100), Some(800), None, Some(400)] {
            check(last, &mut path);
        }
        assert_eq!(history.bars(10), "▁█×▄");
        assert_eq!(history.bars(2), "×█");
        for _ in 0..500 {
            history.add(&path);
            path.checks.total += 1;
        }
        assert_eq!(history.bars(1_000).chars().count(), KEPT);
    }
}
