//! Files that one reads in one sitting.

use std::collections::BTreeSet;

use crate::known::Violation;
use crate::repository::{File, Repository};

/// Lines of a file without its tests.
const LINES_MAX: usize = 500;
/// Lines of the median file of the library.
const MEDIAN_MAX: usize = 200;
/// Files and folders directly in `src`.
const ENTRIES_MAX: usize = 12;

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in repository.ending(".rs") {
        let lines = file.lines_without_tests().len();
        if lines > LINES_MAX {
            let what = format!("{lines} lines without tests; split it, {LINES_MAX} are the most");
            violations.push(Violation::new(&file.path, 0, what));
        }
    }
    let library: Vec<&File> = repository
        .ending(".rs")
        .filter(|file| file.path.starts_with("src/"))
        .collect();
    let sources = library
        .iter()
        .filter(|file| !repository.is_test_module(file));
    let mut lengths: Vec<usize> = sources
        .map(|file| file.lines_without_tests().len())
        .collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    if median >= MEDIAN_MAX {
        let what = format!(
            "the median file has {median} lines; split files until it is below {MEDIAN_MAX}"
        );
        violations.push(Violation::new("src", 0, what));
    }
    let entries: BTreeSet<_> = library
        .iter()
        .filter_map(|file| file.path.split('/').nth(1))
        .collect();
    if entries.len() > ENTRIES_MAX {
        let what = format!(
            "{} entries; move some into rooms, {ENTRIES_MAX} are the most",
            entries.len()
        );
        violations.push(Violation::new("src", 0, what));
    }
    violations
}
