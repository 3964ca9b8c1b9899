//! Watches one path, prints what its first checks show, and stops.
//!
//! ```sh
//! cargo run --example minimal -- /dev/sda
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::error::Error;
use std::time::Duration;

use pathpulse::{Config, Monitor, Settings, State};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: minimal PATH")?;
    let config = Config {
        settings: Settings {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            ..Settings::default()
        },
        ..Config::default()
    };
    let monitor = Monitor::start(config)?;
    // Subscribe before adding, so that the first event is in the stream, too.
    let events = monitor.events(16);
    let id = monitor.add(&path)?;

    // The first event tells the state that the first checks led to.
    let limit = Duration::from_secs(5);
    if events.next_within(limit).event().is_none() {
        println!("{path}: no state within {limit:?}");
    }
    let status = monitor.path(id).ok_or("the path was removed")?;
    println!("{path}: {} ({})", status.state, status.cause.name());
    if let (State::Up, Some(latency)) = (status.state, status.latency_us) {
        println!("median latency: {} us", latency.p50);
    }

    // Returns in time, whatever the device does.
    let left = monitor.shutdown(Duration::from_secs(1));
    if left.held_reads > 0 {
        println!("{} reads are left in the kernel", left.held_reads);
    }
    Ok(())
}
