//! Runs a program on each change of state, without keeping the stream of events waiting.
//!
//! A program may take long, or hang on the very device that failed. So a thread of its own runs
//! it, behind a queue with a limit. The thread that reads the stream never waits.
//!
//! ```sh
//! cargo run --example custom_action -- 'logger "$STORAGE_PATH is $STORAGE_STATE"' /dev/sda
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::error::Error;
use std::process::Command;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use pathpulse::{Config, Event, Monitor};

/// Events that may wait for the action.
const WAITING_MAX: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let script = arguments
        .next()
        .ok_or("usage: custom_action SCRIPT PATH...")?;
    let paths: Vec<String> = arguments.collect();

    let monitor = Monitor::start(Config::default())?;
    let events = monitor.events(1024);
    for answer in monitor.add_all(&paths, Duration::from_secs(5)) {
        answer?;
    }
    let actions = start_actions(move |event| run(&script, event));
    while let Some(event) = events.next() {
        // Some events tell more than states do: a late answer, a name that leads elsewhere.
        if event.from == event.to {
            continue;
        }
        match actions.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => {
                println!(
                    "{}: too many actions wait, left out",
                    event.path.name().display()
                );
            }
            Err(TrySendError::Disconnected(_)) => return Err("the action panicked".into()),
        }
    }
    Ok(())
}

/// Starts a thread that calls `action` for each event that it is sent, one after the other.
fn start_actions(mut action: impl FnMut(&Event) + Send + 'static) -> SyncSender<Event> {
    let (sender, receiver) = sync_channel::<Event>(WAITING_MAX);
    thread::spawn(move || {
        for event in receiver {
            action(&event);
        }
    });
    sender
}

/// Runs the script for an event, and waits for its end.
fn run(script: &str, event: &Event) {
    let mut shell = Command::new("sh");
    // The name goes through the environment: no byte of it can become part of the script.
    shell.args(["-c", script]);
    shell.env("STORAGE_PATH", event.path.name());
    shell.env("STORAGE_STATE", event.to.name());
    shell.env("STORAGE_CAUSE", event.cause.name());
    match shell.status() {
        Ok(status) if status.success() => {}
        Ok(status) => println!("the script failed: {status}"),
        Err(error) => println!("the script can't be run: {error}"),
    }
}
