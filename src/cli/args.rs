//! Arguments that several commands share, and how their values are read.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use pathpulse::{BackendKind, Choice};

/// Longer than anything that makes sense, and short enough to be added to any clock.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const DURATION_MIN: Duration = Duration::from_millis(1);

/// Where the daemon's socket is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Socket {
    /// The daemon's socket
    #[arg(
        long = "socket",
        value_name = "FILE",
        env = "PATHPULSE_SOCKET",
        default_value = "/run/pathpulse/pathpulse.sock"
    )]
    pub(crate) file: PathBuf,
}

/// What carries the checks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The best that this kernel offers
    Auto,
    /// io_uring
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    /// Linux native AIO
    Aio,
    /// Threads that read
    Sync,
}

impl From<Backend> for Choice {
    fn from(backend: Backend) -> Choice {
        match backend {
            Backend::Auto => Choice::Auto,
            Backend::IoUring => Choice::Only(BackendKind::IoUring),
            Backend::Aio => Choice::Only(BackendKind::Aio),
            Backend::Sync => Choice::Only(BackendKind::Sync),
        }
    }
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Reads a duration such as `500ms`, `2s` or `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; durations are like 500ms, 2s, 1m30s"))?;
    if (DURATION_MIN..=DURATION_MAX).contains(&duration) {
        Ok(duration)
    } else {
        Err("durations are from 1ms to 24h".to_owned())
    }
}

/// Reads an address such as `127.0.0.1:9464` or `[::1]:9464`; a port alone is of loopback.
pub(crate) fn http_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost").unwrap_or(text);
    let port = port.strip_prefix(':').unwrap_or(port);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        "addresses are like 127.0.0.1:9464, [::1]:9464, or a port of loopback: 9464".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_loopback() {
        for text in ["9464", ":9464", "localhost:9464", "127.0.0.1:9464"] {
            assert_eq!(
                http_address(text),
                Ok(SocketAddr::from(([127, 0, 0, 1], 9464)))
            );
        }
        assert!(http_address("[::]:80").is_ok_and(|address| address.ip().is_unspecified()));
        for wrong in [
            "",
            "localhost",
            "example.org:80",
            "1.2.3.4",
            "65536",
            "[::1]",
        ] {
            assert!(http_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units_and_limits() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("24h").is_ok());
        for wrong in [
            "",
            "2",
            "-1s",
            "0s",
            "1us",
            "25h",
            "99999999999y",
            "2 parsecs",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
