//! The least that rest can cost: the yardstick, at the pace of the daemon, on the same devices.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_bench::{Yardstick, read_clock};
use rustix::time::ClockId;

/// The daemon begins what is due in slots of 256 ms; as many bursts are in an interval of two seconds.
const BURSTS: usize = 8;
/// Of this thread, in the kernel and out of it.
const CPU: ClockId = ClockId::ThreadCPUTime;

/// Reads from each path once in an interval, for so long, and says what percent of a CPU that takes.
///
/// # Errors
/// Why there is no yardstick.
pub(crate) fn yardstick(
    paths: &[PathBuf],
    interval: Duration,
    window: Duration,
    stop: &AtomicBool,
) -> Result<f64, String> {
    let mut bursts = paths
        .chunks(paths.len().div_ceil(BURSTS).max(1))
        .map(|some| Yardstick::new(some, interval))
        .collect::<Result<Vec<Yardstick>, String>>()?;
    let step = interval / u32::try_from(bursts.len().max(1)).unwrap_or(u32::MAX);
    let failed = |error: std::io::Error| format!("the yardstick: {error}");
    for burst in &mut bursts {
        burst.sweep().map_err(failed)?;
    }
    let (before, begin) = (read_clock(CPU), Instant::now());
    let mut next = begin;
    while begin.elapsed() < window && !stop.load(Relaxed) {
        for burst in &mut bursts {
            next += step;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            burst.sweep().map_err(failed)?;
        }
    }
    let cpu = read_clock(CPU).saturating_sub(before);
    Ok(cpu.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}
