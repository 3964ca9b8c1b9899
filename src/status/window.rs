//! The latencies of a path's last answered checks. One thread writes them, any thread reads them,
//! without a lock.
//!
//! The window holds the last [`CHECKS`] checks in two bytes each, as floating-point numbers with
//! ten fraction bits. The error is at most a thousandth. Counting a check is two stores; readers
//! compute the quantiles.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Size of the window: about four minutes at one check in two seconds.
const CHECKS: usize = 128;
/// Number of checks that a comparison with peers uses: the last minute at one in two seconds.
pub(crate) const RECENT: usize = 32;

/// Codes in one word.
const CODES_PER_WORD: usize = 4;
/// Number of words of a window: the number of counted checks, then the codes.
pub(super) const WORDS: usize = 1 + CHECKS / CODES_PER_WORD;

/// Latencies of the last checks of one path.
///
/// The first word is the number of checks since the start. On overflow of its lower half it
/// restarts at the size of one window.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a>(&'a [AtomicU64; WORDS]);

/// Latencies of the answered checks in the window, from submission to completion, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The last one.
    pub last: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Maximum.
    pub max: u64,
}

impl<'a> Window<'a> {
    /// The window in these [`WORDS`] words.
    pub(super) fn over(words: &'a [AtomicU64]) -> Window<'a> {
        Window(words.try_into().expect("as many words as a window has"))
    }

    /// Counts a latency. Only one thread may call this. Returns the number of counted checks; see
    /// the overflow of `counted`.
    pub(crate) fn count(&self, us: u64) -> u32 {
        let counted = self.counted();
        let (word, shift) = self.place(counted as usize % CHECKS);
        let others = word.load(Relaxed) & !(u64::from(u16::MAX) << shift);
        word.store(others | u64::from(encode(us)) << shift, Relaxed);
        let counted = counted.checked_add(1).unwrap_or(CHECKS as u32);
        self.0[0].store(counted.into(), Relaxed);
        counted
    }

    /// Number of counted checks.
    fn counted(&self) -> u32 {
        self.0[0].load(Relaxed) as u32
    }

    /// The word of a code, and the place of the code in it.
    fn place(&self, code: usize) -> (&AtomicU64, usize) {
        let word = &self.0[1 + code / CODES_PER_WORD];
        (word, code % CODES_PER_WORD * 16)
    }

    /// Latencies of the window; `None` if it is empty.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let mut codes = [0; CHECKS];
        let codes = self.latest(&mut codes);
        let last = decode(*codes.last()?);
        codes.sort_unstable();
        // Index of the slowest among the fastest `percent` per cent.
        let at = |percent: usize| decode(codes[(codes.len() * percent).div_ceil(100) - 1]);
        Some(Latency {
            last,
            p50: at(50),
            p99: at(99),
            max: at(100),
        })
    }

    /// The last `count` latencies in microseconds, in the order of the checks; fewer if there are
    /// fewer.
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

    /// Fills `into` with the latest codes, oldest first, and returns the filled part.
    fn latest<'i>(&self, into: &'i mut [u16]) -> &'i mut [u16] {
        let counted = self.counted();
        let wanted = into.len().min(CHECKS).min(counted as usize);
        for (nth, code) in into[..wanted].iter_mut().enumerate() {
            let back = (wanted - nth) as u32;
            let place = counted.wrapping_sub(back) as usize % CHECKS;
            let (word, shift) = self.place(place);
            *code = (word.load(Relaxed) >> shift) as u16;
        }
        &mut into[..wanted]
    }
}

/// Encodes numbers below 2048 as themselves, larger ones as their upper eleven bits and the count
/// of the bits below. Codes sort like the numbers that they stand for.
fn encode(us: u64) -> u16 {
    let shift = (us | 1024).ilog2() - 10;
    // At most 53 bits are cut off, so the sum stays below 2^16.
    (shift * 1024) as u16 + (us >> shift) as u16
}

fn decode(code: u16) -> u64 {
    let shift = (code / 1024).saturating_sub(1);
    u64::from(code - shift * 1024) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> [AtomicU64; WORDS] {
        [const { AtomicU64::new(0) }; WORDS]
    }

    #[test]
    fn codes_keep_the_order_and_are_exact_to_a_thousandth() {
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
    fn latencies_come_from_the_latest_checks_only() {
        let words = words();
        let window = Window::over(&words);
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
    fn last_returns_the_available_latencies_in_order() {
        let words = words();
        let window = Window::over(&words);
        assert_eq!(window.last(60), []);
        for us in 1..=1000 {
            window.count(us);
        }
        assert_eq!(window.last(3), [998, 999, 1000]);
        assert_eq!(window.last(usize::MAX).len(), CHECKS);
    }

    #[test]
    fn the_recent_median_needs_enough_checks_and_uses_only_those() {
        let words = words();
        let window = Window::over(&words);
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
    fn counting_continues_when_the_counter_overflows() {
        let words = words();
        let window = Window::over(&words);
        for us in 1..=CHECKS as u64 {
            window.count(us);
        }
        words[0].store(u64::from(u32::MAX - 1), Relaxed);
        for us in [501, 502, 503] {
            window.count(us);
        }
        let latency = window.latency().expect("some");
        assert_eq!((latency.last, latency.max), (503, 503));
        assert_eq!(
            latency.p50,
            64 + 1,
            "all but three are from before the overflow"
        );
    }
}
