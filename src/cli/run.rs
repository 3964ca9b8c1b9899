//! `pathpulse run`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pathpulse::{Config, Settings};
use tracing_subscriber::filter::LevelFilter;

use super::Failure;
use super::args::{self, Backend, Socket};
use crate::daemon::{self, Filter, Log, Options};

/// Watches paths, in the foreground, until it is told to stop
///
/// Logs to stderr, and answers `pathpulse status`, `events` and `stop` over its socket. SIGTERM and
/// SIGINT stop it within a second, a second one at once. Without io_uring (or RWF_NOWAIT) the
/// kernel may keep the stopped process until its devices have answered.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 stopped as it was told, 1 it could not watch, 3 wrong usage.\n\n\
    Examples:\n  pathpulse run /dev/sda /dev/sdb\n  \
    pathpulse run --interval 500ms --timeout 1s --socket /tmp/p.sock /dev/nvme*n1"
)]
pub(crate) struct Args {
    /// What to watch: block devices, or files that take O_DIRECT
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Threads that check; one serves ten thousand paths
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// What carries the reads to the kernel
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        env = "PATHPULSE_BACKEND",
        default_value = "auto"
    )]
    backend: Backend,
    /// From check to check of a path
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = args::duration)]
    interval: Duration,
    /// How long a path may take to answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = args::duration)]
    timeout: Duration,
    #[command(flatten)]
    socket: Socket,
    /// Answer GET on this TCP address, too: /metrics, /livez, /v1/status; a port alone is of loopback
    #[arg(long, value_name = "ADDR", value_parser = args::http_address)]
    http: Option<SocketAddr>,
    /// What to log: error, warn, info, debug or trace, or TARGET=LEVEL,...
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info", value_parser = log_filter)]
    log: Filter,
}

pub(crate) fn run(args: Args) -> Result<i32, Failure> {
    let log = Log::start(args.log)
        .map_err(|error| Failure::new(format!("no thread for the log: {error}")))?;
    let files = pathpulse_kernel_compat::raise_open_files_limit();
    tracing::debug!("limit of open files: {files}");
    let options = Options {
        engine: Config {
            backend: args.backend.into(),
            workers: args.workers.into(),
            settings: Settings {
                interval: args.interval,
                timeout: args.timeout,
                ..Settings::default()
            },
        },
        paths: args.paths,
        socket: args.socket.file,
        http: args.http,
    };
    daemon::run(options, &log).map(|()| 0).map_err(|message| {
        log.flush();
        Failure::new(message)
    })
}

/// Reads a level, or targets with levels. A word alone would be a target, and a level misspelt.
fn log_filter(text: &str) -> Result<Filter, String> {
    // RUST_LOG may be set to nothing.
    let text = if text.is_empty() { "info" } else { text };
    let is_level = |part: &str| part.trim().parse::<LevelFilter>().is_ok();
    if let Some(word) = text
        .split(',')
        .find(|part| !part.contains('=') && !is_level(part))
    {
        return Err(format!(
            "`{word}` is no level; they are off, error, warn, info, debug, trace"
        ));
    }
    text.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in ["info", "WARN", "off", "info,pathpulse=trace", "hyper=off"] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
        for wrong in ["shouting", "pathpulse=loud", "info,loud"] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
    }
}
