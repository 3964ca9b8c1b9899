//! The syntax of values, the same in the file and on the command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;

/// Longer than any sensible duration, and short enough to be added to any clock.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const DURATION_MIN: Duration = Duration::from_millis(1);

/// Parses a duration such as `500ms`, `2s` or `1m30s`; at least 1 ms.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    duration_from(text, DURATION_MIN)
}

/// Parses a duration of at least `least`.
pub(crate) fn duration_from(text: &str, least: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; durations are like 500ms, 2s, 1m30s"))?;
    if (least..=DURATION_MAX).contains(&duration) {
        Ok(duration)
    } else {
        let least = show_duration(least);
        Err(format!("durations are from {least} to 24h"))
    }
}

/// The text that [`duration`] parses.
pub(crate) fn show_duration(duration: Duration) -> String {
    let text = humantime::format_duration(duration).to_string();
    text.replace(' ', "")
}

/// Parses a number of bytes such as `4096`, `4KiB` or `1 MiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>();
    size.map(|size| size.as_u64())
        .map_err(|_| format!("invalid size `{text}`: sizes are like 4096, 4KiB, 1MiB"))
}

/// Parses an address such as `127.0.0.1:9464` or `[::1]:9464`; a port alone means loopback.
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

/// Which users of the socket may change something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ChangeRights {
    /// Root and the user of the daemon.
    #[default]
    Root,
    /// The group of the socket, too.
    Group,
}

impl ChangeRights {
    pub(crate) fn read(text: &str) -> Result<ChangeRights, String> {
        match text {
            "root" => Ok(ChangeRights::Root),
            "group" => Ok(ChangeRights::Group),
            other => Err(format!("invalid value `{other}`: expected root or group")),
        }
    }

    /// The text that [`ChangeRights::read`] parses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ChangeRights::Root => "root",
            ChangeRights::Group => "group",
        }
    }
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
        for wrong in ["2", "", "0s", "1us", "25h", "-1s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration_from("0s", Duration::ZERO), Ok(Duration::ZERO));
        for text in ["1ms", "2s", "1m30s", "24h"] {
            let read = duration(text).expect("a duration");
            assert_eq!(duration(&show_duration(read)), Ok(read));
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("4KiB"), Ok(4096));
        assert!(bytes("large").is_err());
    }
}
