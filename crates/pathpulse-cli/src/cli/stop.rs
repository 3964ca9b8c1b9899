//! `pathpulse stop`: ends the daemon.

use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use super::Failure;
use super::args::SocketOption;
use super::client::Client;

/// The daemon ends within one second.
const LIMIT: Duration = Duration::from_secs(2);

/// Stops the daemon, and waits until its process has ended
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the daemon has ended, 1 no daemon, or it has not ended, 3 wrong usage.\n\n\
    Example:\n  pathpulse stop"
)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: SocketOption,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let mut client = Client::connect(args.socket.file())?;
    let begin = Instant::now();
    let answer = client.post::<IgnoredAny>("/v1/stop", &(), LIMIT / 2);
    // It may end before it answers. What counts is that it has ended.
    if client.wait_ended(LIMIT.saturating_sub(begin.elapsed())) {
        return Ok(0);
    }
    let socket = args.socket.file().display();
    let pid = client.pid().map(|pid| format!(" (pid {pid})"));
    let pid = pid.unwrap_or_default();
    // It removes its socket when it has stopped, and no other daemon can have made a new one.
    if !args.socket.file().exists() {
        return Err(Failure::new(format!(
            "the daemon at {socket} has stopped, but the kernel holds its process{pid} until silent devices \
             answer its reads; SIGKILL cannot end it either"
        )));
    }
    answer?;
    Err(Failure::new(format!(
        "the daemon at {socket}{pid} has not stopped within {LIMIT:?}; a silent device may hold it in the \
         kernel; its log has more"
    )))
}
