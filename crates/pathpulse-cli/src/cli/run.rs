//! `pathpulse run`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;

use super::Failure;
use super::args::{self, Backend};
use super::names::meant;
use crate::daemon::config::{CommandLine, Configuration, Layer};
use crate::daemon::{self, Filter, Log};

/// Watches paths, in the foreground, until it is told to stop
///
/// Logs to stderr, and answers `pathpulse status`, `events` and `stop` over its socket. SIGTERM and
/// SIGINT stop it within a second, a second one at once. Without io_uring (or RWF_NOWAIT) the
/// kernel may keep the stopped process until its devices have answered.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 stopped as it was told, 1 it could not watch, 3 wrong usage.\n\n\
    Examples:\n  pathpulse run /dev/sda /dev/sdb\n  \
    pathpulse run --config /etc/pathpulse.toml\n  \
    pathpulse run --interval 500ms --timeout 1s --socket /tmp/p.sock /dev/nvme*n1"
)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// What to log: error, warn, info, debug or trace, or TARGET=LEVEL,...
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info", value_parser = log_filter)]
    log: Filter,
}

/// What the daemon is to do; the command line wins over the file.
#[derive(Debug, clap::Args)]
pub(crate) struct What {
    /// What to watch: block devices, or files that take O_DIRECT
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Its configuration; `pathpulse config check FILE` says what is wrong with one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads that check; one serves ten thousand paths [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// What carries the reads to the kernel [default: auto]
    #[arg(long, value_enum, value_name = "NAME", env = "PATHPULSE_BACKEND")]
    backend: Option<Backend>,
    #[command(flatten)]
    watch: Watch,
    /// The daemon's socket [default: /run/pathpulse/pathpulse.sock]
    #[arg(long, value_name = "FILE", env = "PATHPULSE_SOCKET")]
    socket: Option<PathBuf>,
    /// Answer GET on this TCP address, too: /metrics, /livez, /v1/status; a port alone is of loopback
    #[arg(long, value_name = "ADDR", value_parser = args::http_address)]
    http: Option<SocketAddr>,
    /// Keep the last events in this file, so that they survive a restart [default: in systemd's
    /// StateDirectory, if there is one]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Which of these a variable of the environment gave.
    #[arg(skip)]
    from_environment: Vec<(&'static str, &'static str)>,
}

impl What {
    /// Learns from what was parsed which options come from the environment.
    pub(super) fn note_sources(&mut self, matches: &clap::ArgMatches) {
        let variables = [
            ("backend", "PATHPULSE_BACKEND"),
            ("socket", "PATHPULSE_SOCKET"),
        ];
        let environment = Some(clap::parser::ValueSource::EnvVariable);
        let given = variables.into_iter();
        let given = given.filter(|(option, _)| matches.value_source(option) == environment);
        self.from_environment = given.collect();
    }
}

impl Args {
    pub(super) fn note_sources(&mut self, matches: &clap::ArgMatches) {
        self.what.note_sources(matches);
    }
}

/// How all paths are watched.
#[derive(Debug, clap::Args)]
struct Watch {
    /// From check to check of a path [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = args::watch("interval"))]
    interval: Option<Layer>,
    /// How long a path may take to answer [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = args::watch("timeout"))]
    timeout: Option<Layer>,
    /// The longest that a path that is down for long waits for its next check [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = args::watch("backoff_max"))]
    backoff_max: Option<Layer>,
    /// So many bad checks in a row take a path down [default: 1]
    #[arg(long, value_name = "N", value_parser = args::watch("fall"))]
    fall: Option<Layer>,
    /// So many good checks in a row bring it back [default: 2]
    #[arg(long, value_name = "N", value_parser = args::watch("rise"))]
    rise: Option<Layer>,
    /// Where a check reads: first, last or rotating [default: first]
    #[arg(long, value_name = "PLACE", value_parser = args::watch("read_place"))]
    read_place: Option<Layer>,
    /// How much a check reads, up to 128KiB; 0 is one block [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = args::watch("read_length"))]
    read_length: Option<Layer>,
}

impl From<Watch> for Layer {
    fn from(watch: Watch) -> Layer {
        let Watch {
            interval,
            timeout,
            backoff_max,
            fall,
            rise,
            read_place,
            read_length,
        } = watch;
        let given = [
            interval,
            timeout,
            backoff_max,
            fall,
            rise,
            read_place,
            read_length,
        ];
        let mut all = Layer::default();
        for layer in given.into_iter().flatten() {
            all.add(&layer);
        }
        all
    }
}

impl From<What> for CommandLine {
    fn from(what: What) -> CommandLine {
        CommandLine {
            file: what.config,
            paths: what.paths.iter().map(|name| meant(name)).collect(),
            watch: what.watch.into(),
            workers: what.workers.map(usize::from),
            backend: what.backend.map(Into::into),
            socket: what.socket,
            http: what.http,
            state: what.state,
            from_environment: what.from_environment,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<i32, Failure> {
    let line = CommandLine::from(args.what);
    let configuration =
        Configuration::load_apart(&line).map_err(|error| Failure::new(error.line()))?;
    if configuration.named().is_empty() && configuration.discovery().is_none() {
        return Err(Failure::usage(
            "nothing to watch: name paths, or a file with --config; see `pathpulse run --help`",
        ));
    }
    let log = Log::start(args.log)
        .map_err(|error| Failure::new(format!("no thread for the log: {error}")))?;
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

/// A file in the first folder that systemd made for state; see systemd.exec(5).
fn state_of_systemd() -> Option<PathBuf> {
    let folders = std::env::var("STATE_DIRECTORY").ok()?;
    let first = folders
        .split(':')
        .next()
        .filter(|first| !first.is_empty())?;
    Some(PathBuf::from(first).join("events"))
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
