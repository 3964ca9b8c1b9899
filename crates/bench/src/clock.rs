//! The clocks of the kernel.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time of a clock: the system's time, or the CPU time of the calling thread or process.
pub fn read_clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
