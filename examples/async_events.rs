//! Reads events in async code: a thread takes them from the stream and passes them to a channel.
//!
//! The library has no async runtime and needs none. The thread may wait for a slow task; then the
//! stream fills and counts what it loses, and checks go on.
//!
//! ```sh
//! cargo run --example async_events -- /dev/sda
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::error::Error;
use std::thread;
use std::time::Duration;

use pathpulse::{Config, Event, EventStream, Monitor, Next};
use tokio::sync::mpsc::{Receiver, Sender, channel};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        return Err("usage: async_events PATH...".into());
    }
    let monitor = Monitor::start(Config::default())?;
    let events = into_channel(monitor.events(1024));
    // Opening may wait for devices: before the runtime starts, or in `spawn_blocking`.
    for answer in monitor.add_all(&paths, Duration::from_secs(5)) {
        answer?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(report(events));
    Ok(())
}

/// A channel that async code can wait for. It ends with the monitor; dropping it ends the thread.
fn into_channel(stream: EventStream) -> Receiver<Event> {
    let (sender, receiver) = channel(64);
    thread::spawn(move || pass_on(&stream, &sender));
    receiver
}

fn pass_on(stream: &EventStream, sender: &Sender<Event>) {
    while !sender.is_closed() {
        match stream.next_within(Duration::from_millis(500)) {
            Next::Event(event) => {
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
            Next::Timeout => {}
            Next::Ended => return,
        }
    }
}

/// Prints events, and that there are none.
async fn report(mut events: Receiver<Event>) {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), events.recv()).await {
            Ok(Some(event)) => {
                let name = event.path.name().display();
                println!("{name}: {} -> {}", event.from, event.to);
            }
            Ok(None) => return,
            Err(_) => println!("nothing changed for ten seconds"),
        }
    }
}
