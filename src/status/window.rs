//! The latencies of a path's last answered checks, which one thread writes and any thread may read,
//! without a lock.
//!
//! The window slides over [`CHECKS`] checks and takes two bytes for each: a floating-point number of
//! ten bits after the point, so that what is read is off by a thousandth at most. Counting a check
//! is one store; what they add up to is worked out by whoever wants to know.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

/// Checks that a window holds: four minutes of them at one in two seconds.
const CHECKS: usize = 128;
/// Checks that a comparison with peers goes by: the last minute.
pub(crate) const RECENT: usize = 32;

/// Latencies of the last checks of one path.
pub(crate) struct Window {
    /// Checks counted since the beginning; one that no longer fits is counted as if there had been only
    /// one window before it.
    counted: AtomicU32,
    codes: [AtomicU16; CHECKS],
}

/// Latencies of the answered checks in the window, in microseconds, from submission to completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Of the last one.
    pub last: u64,
    /// Half of them were as fast.
    pub p50: u64,
    /// 99 of 100 were as fast.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            counted: AtomicU32::new(0),
            codes: [const { AtomicU16::new(0) }; CHECKS],
        }
    }
}

impl Window {
    /// Counts a latency. Only one thread may do this. Returns how many were counted, as far as that is known.
    pub(crate) fn count(&self, us: u64) -> u32 {
        let counted = self.counted.load(Relaxed);
        let place = counted as usize % CHECKS;
        self.codes[place].store(encode(us), Relaxed);
        let counted = counted.checked_add(1).unwrap_or(CHECKS as u32);
        self.counted.store(counted, Relaxed);
        counted
    }

    /// What the window shows; `None` if nothing was counted.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let mut codes = [0; CHECKS];
        let codes = self.latest(&mut codes);
        let last = decode(*codes.last()?);
        codes.sort_unstable();
        // The place of the slowest of the fastest so many per cent.
        let at = |percent: usize| decode(codes[(codes.len() * percent).div_ceil(100) - 1]);
        Some(Latency {
            last,
            p50: at(50),
            p99: at(99),
            max: at(100),
        })
    }

    /// The latencies of the last answered checks in microseconds, at most so many, in the order of the checks.
    pub(crate) fn last(&self, count: usize) -> Vec<u64> {
        let mut codes = [0; CHECKS];
        let codes = self.latest(&mut codes[..count.min(CHECKS)]);
        codes.iter().map(|code| decode(*code)).collect()
    }

    /// The median of the last [`RECENT`] checks, in microseconds; `None` if there were fewer.
    pub(crate) fn recent_median(&self) -> Option<u64> {
        let mut codes = [0; RECENT];
        let codes = self.latest(&mut codes);
        (codes.len() == RECENT).then(|| decode(*codes.select_nth_unstable(RECENT / 2).1))
    }

    /// As many of the latest codes as there are, and as fit; the very last one is the last.
    fn latest<'a>(&self, into: &'a mut [u16]) -> &'a mut [u16] {
        let counted = self.counted.load(Relaxed);
        let wanted = into.len().min(CHECKS).min(counted as usize);
        for (nth, code) in into[..wanted].iter_mut().enumerate() {
            let back = (wanted - nth) as u32;
            let place = counted.wrapping_sub(back) as usize % CHECKS;
            *code = self.codes[place].load(Relaxed);
        }
        &mut into[..wanted]
    }
}

/// Below 2048 the number itself; above, its upper eleven bits and how many more it has. Codes are
/// in the order of what they stand for.
fn encode(us: u64) -> u16 {
    let more = (us | 1024).ilog2() - 10;
    // 53 more bits at most: the sum is below 2^16.
    (more * 1024) as u16 + (us >> more) as u16
}

fn decode(code: u16) -> u64 {
    let more = (code / 1024).saturating_sub(1);
    u64::from(code - more * 1024) << more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_exact_to_a_thousandth_and_in_order() {
        let mut before = 0;
        for us in (0..10_000).chain((4..64).map(|bits| (1u64 << bits) + 12_345)) {
            let back = decode(encode(us));
            assert!(back <= us && us - back <= us / 1000, "{us}: {back}");
            assert!(encode(us) >= before || us == 16 + 12_345, "{us}");
            before = encode(us);
        }
        assert!(decode(encode(u64::MAX)) > u64::MAX / 1001 * 1000);
    }

    #[test]
    fn it_shows_the_latest_checks_and_forgets_the_rest() {
        let window = Window::default();
        assert_eq!(window.latency(), None);
        window.count(7);
        let only = Latency {
            last: 7,
            p50: 7,
            p99: 7,
            max: 7,
        };
        assert_eq!(window.latency(), Some(only));
        for us in 1..=1000 {
            window.count(us);
        }
        let expected = Latency {
            last: 1000,
            p50: 936,
            p99: 999,
            max: 1000,
        };
        assert_eq!(window.latency(), Some(expected));
    }

    #[test]
    fn the_last_ones_come_in_order_and_no_more_than_there_are() {
        let window = Window::default();
        assert_eq!(window.last(60), []);
        for us in 1..=1000 {
            window.count(us);
        }
        assert_eq!(window.last(3), [998, 999, 1000]);
        assert_eq!(window.last(usize::MAX).len(), CHECKS);
    }

    #[test]
    fn the_recent_median_wants_enough_checks_and_sees_only_those() {
        let window = Window::default();
        for us in 1..RECENT as u64 {
            window.count(us);
            assert_eq!(window.recent_median(), None);
        }
        for _ in 0..RECENT {
            window.count(50_000);
        }
        assert!(window.recent_median().expect("enough").abs_diff(50_000) < 50);
        for _ in 0..=RECENT / 2 {
            window.count(80);
        }
        assert_eq!(window.recent_median(), Some(80));
    }

    #[test]
    fn counting_goes_on_when_the_counter_wraps() {
        let window = Window::default();
        for us in 1..=CHECKS as u64 {
            window.count(us);
        }
        window.counted.store(u32::MAX - 1, Relaxed);
        for us in [501, 502, 503] {
            window.count(us);
        }
        let latency = window.latency().expect("some");
        assert_eq!((latency.last, latency.max), (503, 503));
        assert_eq!(
            latency.p50,
            64 + 1,
            "but for three all are those from before"
        );
    }
}
