//! `pathpulse stop`: ends the daemon.

use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use super::Failure;
use super::args::Socket;
use super::client::Client;

/// The daemon promises to be gone within one second.
const LIMIT: Duration = Duration::from_secs(2);

/// Stops the daemon, and waits until it is gone
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 it is gone, 1 there was none or it is still there, 3 wrong usage.\n\n\
    Example:\n  pathpulse stop"
)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: Socket,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let mut client = Client::connect(&args.socket.file)?;
    let begin = Instant::now();
    let answer = client.post::<IgnoredAny>("/v1/stop", &(), LIMIT / 2);
    // Whatever it said, or was too busy leaving to say: this is what was asked for.
    if client.wait_gone(LIMIT.saturating_sub(begin.elapsed())) {
        return Ok(0);
    }
    let socket = args.socket.file.display();
    let pid = client.pid().map(|pid| format!(" (pid {pid})"));
    let pid = pid.unwrap_or_default();
    // It takes its socket away when it has stopped, and nobody else can have made a new one.
    if !args.socket.file.exists() {
        return Err(Failure::new(format!(
            "the daemon at {socket} has stopped, but the kernel keeps its process{pid} until silent devices \
            answer its reads; SIGKILL can't end it either"
        )));
    }
    answer?;
    Err(Failure::new(format!(
        "the daemon at {socket}{pid} was told to stop and is still there after {LIMIT:?}; a device may hold it in the kernel"
    )))
}
