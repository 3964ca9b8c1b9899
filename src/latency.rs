//! A histogram of latencies that one thread writes and any thread may read, without a lock.
//!
//! Four buckets for every doubling, from 1 us to 67 s: 100 counters, 400 bytes a path. A quantile
//! read from it is interpolated within its bucket, so it is off by an eighth at the most.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const BUCKETS: usize = 100;
const LAST: u64 = 1 << 26;

/// Latencies of one path, in microseconds.
pub(crate) struct Histogram([AtomicU32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([const { AtomicU32::new(0) }; BUCKETS])
    }
}

fn bucket_of(us: u64) -> usize {
    let us = us.min(LAST - 1);
    if us < 4 {
        return us as usize;
    }
    let doubling = us.ilog2();
    let quarter = (us >> (doubling - 2)) & 3;
    ((doubling - 1) * 4) as usize + quarter as usize
}

/// Where a bucket begins, in microseconds.
fn start_of(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let doubling = bucket as u64 / 4 + 1;
    (4 + bucket as u64 % 4) << (doubling - 2)
}

impl Histogram {
    /// Counts a latency. Only one thread may do this.
    pub(crate) fn count(&self, us: u64) {
        let bucket = &self.0[bucket_of(us)];
        // One writer: a load and a store cost less than an atomic addition.
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The latencies, in microseconds, that `per_mille` of the counted ones don't exceed, for each
    /// of the given shares; `None` if nothing was counted.
    pub(crate) fn quantiles<const N: usize>(&self, per_mille: [u64; N]) -> Option<[u64; N]> {
        let counts: [u64; BUCKETS] = std::array::from_fn(|i| u64::from(self.0[i].load(Relaxed)));
        let total: u64 = counts.iter().sum();
        (total > 0)
            .then(|| per_mille.map(|share| quantile(&counts, (total * share).div_ceil(1000))))
    }
}

/// The latency of the `rank`th (from 1) in order.
fn quantile(counts: &[u64; BUCKETS], rank: u64) -> u64 {
    let mut below = 0;
    for (bucket, count) in counts.iter().enumerate() {
        if below + count >= rank.max(1) {
            let (start, end) = (start_of(bucket), start_of(bucket + 1));
            return start + (end - start - 1) * (rank.max(1) - below) / count;
        }
        below += count;
    }
    LAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        assert_eq!(bucket_of(LAST - 1), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(start_of(bucket)), bucket);
            assert_eq!(bucket_of(start_of(bucket + 1) - 1), bucket);
        }
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantiles([500]), None);
        for us in 1..=10_000 {
            histogram.count(us);
        }
        let [p50, p99, all] = histogram.quantiles([500, 990, 1000]).expect("counted");
        for (seen, truth) in [(p50, 5000u64), (p99, 9900), (all, 10_000)] {
            assert!(seen.abs_diff(truth) <= truth / 8 + 1, "{seen} for {truth}");
        }
    }

    #[test]
    fn a_single_latency_is_every_quantile() {
        let histogram = Histogram::default();
        histogram.count(85);
        let [p50, p99] = histogram.quantiles([500, 990]).expect("counted");
        assert_eq!(p50, p99);
        assert!(p50.abs_diff(85) <= 11, "{p50}");
    }
}
