//! Watches paths and prints each change of state until it is interrupted.
//!
//! ```sh
//! cargo run --example events -- /dev/sda /dev/sdb
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::error::Error;
use std::time::Duration;

use pathpulse::{Config, Monitor, Next, display_name};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        return Err("usage: events PATH...".into());
    }
    let monitor = Monitor::start(Config::default())?;
    // Room for the events that arrive while this thread prints. A full stream loses events, counts
    // them, and delays no check.
    let events = monitor.events(1024);
    // A device whose open(2) hangs must not keep the others from being watched.
    for answer in monitor.add_all(&paths, Duration::from_secs(5)) {
        if let Err(error) = answer {
            println!("not watched: {error}");
        }
    }
    loop {
        match events.next_within(Duration::from_secs(10)) {
            Next::Event(event) => {
                let name = display_name(event.path.name());
                let cause = event.cause.name();
                println!(
                    "{name}: {} -> {} ({cause}) {}",
                    event.from, event.to, event.detail
                );
            }
            Next::Timeout => {
                let lost = events.take_lost();
                if lost > 0 {
                    println!("{lost} events were lost; Monitor::status has all states");
                }
            }
            Next::Ended => return Ok(()),
        }
    }
}
