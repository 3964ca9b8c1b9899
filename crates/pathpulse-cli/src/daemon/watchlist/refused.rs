//! Log lines about paths that can't be opened: one line for all that can't for the same reason.

use std::path::Path;
use std::time::{Duration, Instant};

use pathpulse::display_name;

use crate::human::message_lines;

/// How long a path that can't be opened waits for others that are refused as it is.
const PAUSE: Duration = Duration::from_millis(200);

/// Refusals that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Names and reasons.
    paths: Vec<(String, String)>,
    due: Option<Instant>,
}

impl Refused {
    /// A path can't be opened, for this reason.
    pub(super) fn add(&mut self, name: &Path, why: String, now: Instant) {
        self.paths.push((display_name(name).to_string(), why));
        self.due.get_or_insert(now + PAUSE);
    }

    /// When they are to be logged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Logs them if they are due.
    pub(super) fn log_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.log();
        }
    }

    /// Logs them.
    pub(super) fn log(&mut self) {
        for line in self.take() {
            tracing::error!("not watched yet: {line}");
        }
    }

    /// A line for each path, or for many that can't be opened for the same reason.
    fn take(&mut self) -> Vec<String> {
        self.due = None;
        let paths = std::mem::take(&mut self.paths);
        let said = paths.iter().map(|(name, why)| (&**name, &**why));
        message_lines(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_for_one_reason_are_one_line_after_a_pause() {
        let start = Instant::now();
        let mut refused = Refused::default();
        assert_eq!(refused.due(), None);
        for n in 0..25 {
            let name = format!("/dev/sd{n}");
            let later = start + Duration::from_millis(n);
            refused.add(Path::new(&name), "no access".to_owned(), later);
        }
        refused.add(Path::new("/a\nb"), "not there".to_owned(), start);
        assert_eq!(refused.due(), Some(start + PAUSE), "from the first on");
        let expected = [
            "/dev/sd0, /dev/sd1, /dev/sd2 and 22 more: no access",
            r"/a\nb: not there",
        ];
        assert_eq!(refused.take(), expected);
        assert_eq!((refused.due(), refused.take()), (None, Vec::new()));
    }
}
