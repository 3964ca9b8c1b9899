//! The minimal cost of an idle daemon: the yardstick reads the same devices at the daemon's rate.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_bench::{Baseline, read_clock};
use rustix::time::ClockId;

/// The daemon starts checks in slots of 256 ms, of which an interval of two seconds has this many.
const SLOTS: usize = 8;
/// The daemon starts this many checks of a slot at a time, so that it can measure each latency.
pub(crate) const AT_A_TIME: usize = 64;
/// CPU time of this thread, in the kernel and in user space.
const CPU: ClockId = ClockId::ThreadCPUTime;

/// Reads from each path once in an interval, `at_a_time` at a time, during `window`, and returns
/// the percentage of a CPU that this takes.
///
/// # Errors
/// The yardstick does not work here.
pub(crate) fn yardstick(
    paths: &[PathBuf],
    at_a_time: usize,
    interval: Duration,
    window: Duration,
    stop: &AtomicBool,
) -> Result<f64, String> {
    let bursts = |slot: &[PathBuf]| {
        let parts = slot.len().div_ceil(at_a_time).max(1);
        let bursts = slot.chunks(slot.len().div_ceil(parts));
        bursts.map(|some| Baseline::new(some, interval)).collect()
    };
    let mut slots = paths
        .chunks(paths.len().div_ceil(SLOTS).max(1))
        .map(bursts)
        .collect::<Result<Vec<Vec<Baseline>>, String>>()?;
    let step = interval / u32::try_from(slots.len().max(1)).unwrap_or(u32::MAX);
    let failed = |error: std::io::Error| format!("the yardstick: {error}");
    for burst in slots.iter_mut().flatten() {
        burst.sweep().map_err(failed)?;
    }
    let (before, begin) = (read_clock(CPU), Instant::now());
    let mut next = begin;
    while begin.elapsed() < window && !stop.load(Relaxed) {
        for slot in &mut slots {
            next += step;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            for burst in slot {
                burst.sweep().map_err(failed)?;
            }
        }
    }
    let cpu = read_clock(CPU).saturating_sub(before);
    Ok(cpu.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}
