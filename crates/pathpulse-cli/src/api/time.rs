//! Times in documents: RFC 3339 in UTC.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

pub(crate) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn whole_seconds(time: SystemTime) -> String {
    format!("{:.0}", timestamp(time))
}

/// A clock that is set to a year without four digits counts as 1970.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_795_442_400, 123_456_789);
        assert_eq!(whole_seconds(time), "2026-11-23T14:00:00Z");
        assert_eq!(
            format!("{:.6}", timestamp(time)),
            "2026-11-23T14:00:00.123456Z"
        );
    }
}
