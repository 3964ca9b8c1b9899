//! Log lines about paths that can't be opened: one line for all paths with the same error.

use std::path::Path;
use std::time::{Duration, Instant};

use pathpulse::display_name;

use crate::human::message_lines;

/// How long an error waits for other paths with the same error.
const PAUSE: Duration = Duration::from_millis(200);

/// Errors that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct OpenErrors {
    /// Names and errors.
    paths: Vec<(String, String)>,
    due: Option<Instant>,
}

impl OpenErrors {
    /// Adds a path that can't be opened.
    pub(super) fn add(&mut self, name: &Path, why: String, now: Instant) {
        self.paths.push((display_name(name).to_string(), why));
        self.due.get_or_insert(now + PAUSE);
    }

    /// When the errors are due to be logged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Logs the errors if they are due.
    pub(super) fn log_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.log();
        }
    }

    /// Logs the errors.
    pub(super) fn log(&mut self) {
        for line in self.take() {
            tracing::error!("not watched yet: {line}");
        }
    }

    /// A line for each path, or one line for many paths with the same error.
    fn take(&mut self) -> Vec<String> {
        self.due = None;
        let paths = std::mem::take(&mut self.paths);
        let messages = paths.iter().map(|(name, why)| (&**name, &**why));
        message_lines(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_paths_with_one_error_are_one_line_after_a_pause() {
        let start = Instant::now();
        let mut errors = OpenErrors::default();
        assert_eq!(errors.due(), None);
        for n in 0..25 {
            let name = format!("/dev/sd{n}");
            let later = start + Duration::from_millis(n);
            errors.add(Path::new(&name), "no access".to_owned(), later);
        }
        errors.add(Path::new("/a\nb"), "not there".to_owned(), start);
        assert_eq!(errors.due(), Some(start + PAUSE), "from the first on");
        let expected = [
            "/dev/sd0, /dev/sd1, /dev/sd2 and 22 more: no access",
            r"/a\nb: not there",
        ];
        assert_eq!(errors.take(), expected);
        assert_eq!((errors.due(), errors.take()), (None, Vec::new()));
    }
}
