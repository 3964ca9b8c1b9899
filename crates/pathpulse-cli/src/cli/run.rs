//! `pathpulse run`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;

use super::Failure;
use super::args::{AllKeys, BackendOption, FromEnvironment, KeyOptions, NewPaths, SocketOption};
use super::names::resolve;
use crate::daemon::config::values::http_address;
use crate::daemon::config::{CommandLine, Configuration};
use crate::daemon::{self, Filter, Log};

/// Runs the daemon in the foreground
///
/// The daemon checks its paths until it is stopped. It logs to stderr and serves the other commands
/// on its socket. SIGTERM and SIGINT stop it within one second, a second signal at once. SIGHUP
/// reloads the configuration. Without io_uring or RWF_NOWAIT, the kernel may keep the stopped
/// process until its devices answer.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 stopped on request, 1 failed, 3 wrong usage.\n\n\
    Examples:\n  pathpulse run /dev/sda /dev/sdb\n  \
    pathpulse run --config /etc/pathpulse.toml\n  \
    pathpulse run --interval 500ms --timeout 1s --socket /tmp/p.sock /dev/nvme*n1"
)]
pub(crate) struct Args {
    #[command(flatten)]
    daemon: DaemonOptions,
    /// What to log: error, warn, info, debug or trace, or TARGET=LEVEL,...
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info", value_parser = log_filter)]
    log: Filter,
}

/// What the daemon is to do. The command line wins over the file.
#[derive(Debug, clap::Args)]
pub(crate) struct DaemonOptions {
    #[command(flatten)]
    from_environment: FromEnvironment,
    #[command(flatten)]
    paths: NewPaths<false>,
    /// Configuration file; `pathpulse config check FILE` validates it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Worker threads; one is enough for 10,000 paths [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    keys: KeyOptions<AllKeys>,
    #[command(flatten)]
    socket: SocketOption,
    /// Serve GET on this TCP address too: /metrics, /livez, /v1/status; a port alone means loopback
    #[arg(long, value_name = "ADDR", value_parser = http_address)]
    http: Option<SocketAddr>,
    /// Keep the last events in this file across restarts [default: a file in the StateDirectory of
    /// systemd, if there is one]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

impl From<DaemonOptions> for CommandLine {
    fn from(options: DaemonOptions) -> CommandLine {
        let names = options.paths.paths.iter();
        CommandLine {
            file: options.config,
            paths: names.map(|name| resolve(name)).collect(),
            watch: options.keys.given,
            workers: options.workers.map(usize::from),
            backend: options.backend.given(),
            socket: options.socket.given(),
            http: options.http,
            state: options.state,
            from_environment: options.from_environment.0,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<i32, Failure> {
    let line = CommandLine::from(args.daemon);
    let configuration =
        Configuration::load_in_subprocess(&line).map_err(|error| Failure::new(error.line()))?;
    if configuration.named().is_empty() && configuration.discovery().is_none() {
        return Err(Failure::usage(
            "no paths to watch: name paths, or a configuration file with --config; see `pathpulse run --help`",
        ));
    }
    let log = Log::start(args.log)
        .map_err(|error| Failure::new(format!("cannot start the log thread: {error}")))?;
    let files = pathpulse_kernel_compat::raise_open_files_limit();
    tracing::debug!("limit of open files: {files}");
    let state = configuration.state.value.clone();
    let state = state.or_else(state_of_systemd);
    daemon::run(configuration, line, state, &log)
        .map(|()| 0)
        .map_err(|message| {
            log.flush();
            Failure::new(message)
        })
}

/// A file in the first directory that systemd made for state; see systemd.exec(5).
fn state_of_systemd() -> Option<PathBuf> {
    let folders = std::env::var("STATE_DIRECTORY").ok()?;
    let first = folders
        .split(':')
        .next()
        .filter(|first| !first.is_empty())?;
    Some(PathBuf::from(first).join("events"))
}

/// Reads a level, or targets with levels. A single word must be a level: `tracing` would take a
/// misspelt level for a target.
fn log_filter(text: &str) -> Result<Filter, String> {
    // RUST_LOG may be empty.
    let text = if text.is_empty() { "info" } else { text };
    let is_level = |part: &str| part.trim().parse::<LevelFilter>().is_ok();
    let mut parts = text.split(',');
    if let Some(word) = parts.find(|part| !part.contains('=') && !is_level(part)) {
        return Err(format!(
            "`{word}` is not a level: expected off, error, warn, info, debug or trace"
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
