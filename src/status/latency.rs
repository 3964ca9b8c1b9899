//! A histogram of latencies since the start. One thread writes it, any thread reads it, without a
//! lock.
//!
//! Each doubling from 1 us to 67 s has four buckets: 100 counters, 800 bytes per group.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pathpulse_kernel_compat::Words;

/// Number of buckets.
const BUCKETS: usize = 100;
const LATENCY_MAX_US: u64 = 1 << 26;

/// Latencies of all paths of one group, in microseconds.
///
/// Its words are the buckets and then the sum, in the memory of this process or in one shared with
/// a reader.
pub(crate) struct Histogram(Words);

/// Number of words of a histogram.
pub(crate) const HISTOGRAM_WORDS: usize = BUCKETS + 1;

/// How many checks took how long, since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyHistogram {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(Words::on_heap(HISTOGRAM_WORDS))
    }
}

fn bucket_of(us: u64) -> usize {
    let us = us.min(LATENCY_MAX_US - 1);
    if us < 4 {
        return us as usize;
    }
    let doubling = us.ilog2();
    let quarter = (us >> (doubling - 2)) & 3;
    ((doubling - 1) * 4) as usize + quarter as usize
}

/// Lower limit of a bucket, in microseconds.
fn start_of(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let doubling = bucket as u64 / 4 + 1;
    (4 + bucket as u64 % 4) << (doubling - 2)
}

impl Histogram {
    /// The histogram in these words, as they are.
    pub(crate) fn over(words: Words) -> Histogram {
        assert_eq!(words.len(), HISTOGRAM_WORDS, "the words of a histogram");
        Histogram(words)
    }

    /// Goes on with the counters of a histogram to which nobody counts any more.
    pub(crate) fn copy_from(&self, old: &Histogram) {
        self.0.copy_from(&old.0);
    }

    /// Forgets everything. Nobody may count meanwhile.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    /// Counts a latency. Only one thread may do this.
    pub(crate) fn count(&self, us: u64) {
        // With one writer, a load and a store are enough, and cost less than an atomic addition.
        let add = |counter: &AtomicU64, more| {
            counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
        };
        add(&self.0[bucket_of(us)], 1);
        add(&self.0[BUCKETS], us);
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> LatencyHistogram {
        LatencyHistogram {
            counts: std::array::from_fn(|i| self.0[i].load(Relaxed)),
            sum_us: self.0[BUCKETS].load(Relaxed),
        }
    }
}

impl LatencyHistogram {
    /// The buckets in ascending order: the latency in microseconds that all checks of the bucket
    /// stay below, and the number of checks. The last bucket includes all longer latencies.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().enumerate();
        counts.map(|(bucket, count)| (start_of(bucket + 1), *count))
    }

    /// Number of checks.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all latencies, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The sum of two histograms.
    pub(crate) fn merged(mut self, other: &LatencyHistogram) -> LatencyHistogram {
        for (mine, more) in self.counts.iter_mut().zip(other.counts) {
            *mine += more;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_adjacent() {
        assert_eq!(bucket_of(LATENCY_MAX_US - 1), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(start_of(bucket)), bucket);
            assert_eq!(bucket_of(start_of(bucket + 1) - 1), bucket);
        }
    }

    #[test]
    fn each_latency_counts_in_its_bucket() {
        let histogram = Histogram::default();
        for us in [1, 85, 85, 5_000, 1 << 40] {
            histogram.count(us);
        }
        let seen = histogram.snapshot();
        let below = |limit| {
            let buckets = seen.buckets().filter(|(end, _)| *end <= limit);
            buckets.map(|(_, count)| count).sum::<u64>()
        };
        assert_eq!((below(2), below(96), below(6_000)), (1, 3, 4));
        assert_eq!(seen.count(), 5);
        let twice = seen.clone().merged(&seen);
        assert_eq!((twice.count(), twice.sum_us()), (10, (2 << 40) + 10_342));
    }
}
