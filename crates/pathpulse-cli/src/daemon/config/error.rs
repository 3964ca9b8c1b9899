//! Why there is no configuration.

use std::path::PathBuf;

use super::problem::Problem;

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// The path of the file.
    pub(crate) file: PathBuf,
    /// The problems in the file; none if it can't be read.
    pub(crate) problems: Vec<Problem>,
    /// Why it can't be read.
    pub(crate) unreadable: Option<String>,
}

impl ConfigError {
    /// One line per problem, in the format of compilers.
    pub(crate) fn lines(&self) -> Vec<String> {
        let file = self.file.display();
        let problems = self.problems.iter();
        let mut lines: Vec<String> = problems
            .map(|problem| format!("{file}:{problem}"))
            .collect();
        lines.extend(self.unreadable.iter().map(|why| format!("{file}: {why}")));
        lines
    }

    /// The first problem, and the number of others.
    pub(crate) fn line(&self) -> String {
        let lines = self.lines();
        let first = lines.first().map_or("", String::as_str);
        match lines.len() {
            0 | 1 => first.to_owned(),
            count => format!(
                "{first} (and {} more: `pathpulse config check {}`)",
                count - 1,
                self.file.display()
            ),
        }
    }
}
