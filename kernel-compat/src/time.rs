//! Points in time on `CLOCK_MONOTONIC`, as plain numbers.
//!
//! `std::time::Instant` hides its value, but the kernel needs absolute deadlines as a timespec, and
//! simulations need to choose points in time. So the engine counts nanoseconds itself.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time on `CLOCK_MONOTONIC`, in nanoseconds.
///
/// The clock stops while the machine is suspended, and nobody can set it. So neither a suspend nor
/// NTP makes a deadline pass early. 64 bits last for 584 years of uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(u64);

impl Mono {
    /// The clock's zero. No running machine reads it.
    pub const ZERO: Mono = Mono(0);

    /// Reads the clock.
    pub fn now() -> Mono {
        let ts = clock_gettime(ClockId::Monotonic);
        // CLOCK_MONOTONIC is never negative (clock_gettime(2)).
        Mono(ts.tv_sec.cast_unsigned() * 1_000_000_000 + ts.tv_nsec.cast_unsigned())
    }

    /// The point `nanos` nanoseconds after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Mono {
        Mono(nanos)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this point. Zero if `earlier` is not before it.
    pub const fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, span: Duration) -> Mono {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Mono(self.0.saturating_add(nanos))
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let a = Mono::now();
        let b = Mono::now();
        assert!(b >= a && a > Mono::ZERO);
    }

    #[test]
    fn arithmetic_saturates() {
        let late = Mono::from_nanos(u64::MAX) + Duration::from_secs(1);
        assert_eq!(late.as_nanos(), u64::MAX);
        assert_eq!(Mono::ZERO.since(late), Duration::ZERO);
        assert_eq!((Mono::ZERO + Duration::MAX).as_nanos(), u64::MAX);
    }
}
