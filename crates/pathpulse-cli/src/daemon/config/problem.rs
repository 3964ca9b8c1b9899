//! Problems in the text of a file, with their positions.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// A problem in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// The cause and the remedy.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// A text and its problems.
pub(crate) struct ProblemReport<'t> {
    text: &'t str,
    /// The offset of each line.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> ProblemReport<'t> {
    /// A report without problems.
    pub(crate) fn new(text: &'t str) -> ProblemReport<'t> {
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        ProblemReport {
            text,
            lines: std::iter::once(0).chain(ends).collect(),
            problems: RefCell::default(),
        }
    }

    /// Adds a problem at a position.
    pub(crate) fn add(&self, at: &Range<usize>, what: impl Into<String>) {
        let (line, column) = self.place(at.start);
        let what = what.into();
        self.problems
            .borrow_mut()
            .push(Problem { line, column, what });
    }

    /// The line and column of a byte offset, both from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let in_line = &self.text.as_bytes()[start..at];
        (line, String::from_utf8_lossy(in_line).chars().count() + 1)
    }

    pub(crate) fn line(&self, at: &Range<usize>) -> usize {
        self.lines.partition_point(|start| *start <= at.start)
    }

    /// All problems, from top to bottom.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}
