//! The rules of this project that no compiler checks, as a test.
//!
//! Each rule reads the files that git tracks and reports violations: file, line, rule, and what to
//! do. `known.txt` counts the violations that are tolerated, by rule and file. It may only shrink:
//! an entry that is too high or not needed fails the test, too. This command lowers the counts:
//!
//! ```sh
//! HOUSE_RULES=shrink cargo test --test house_rules
//! ```
//!
//! Needs git and no privileges. Where there is no repository, such as in an unpacked archive, the
//! tests report SKIPPED.

#![forbid(unsafe_code)]

mod known;
mod lexer;
mod links;
mod repository;
mod rooms;
mod size;
mod unsafe_code;
mod width;
mod words;
mod workplace;

use std::sync::LazyLock;

use known::{Rule, check};
use repository::Repository;

#[test]
fn files_are_short() {
    run(Rule::Size, size::violations);
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    run(Rule::Unsafe, unsafe_code::violations);
}

#[test]
fn lines_are_narrow() {
    run(Rule::Width, width::violations);
}

#[test]
fn words_are_plain() {
    run(Rule::Words, words::violations);
}

#[test]
fn rooms_import_each_other_in_one_direction() {
    run(Rule::Rooms, rooms::violations);
}

#[test]
fn nothing_names_the_place_where_it_was_written() {
    run(Rule::Workplace, workplace::violations);
}

#[test]
fn paths_in_the_documentation_exist() {
    run(Rule::Links, links::violations);
}

/// Runs one rule over the repository.
fn run(rule: Rule, violations: fn(&Repository) -> Vec<known::Violation>) {
    static REPOSITORY: LazyLock<Result<Repository, String>> = LazyLock::new(Repository::open);
    match &*REPOSITORY {
        Ok(repository) => check(rule, &violations(repository)),
        Err(reason) => pathpulse_faultdisk::report_skip(reason),
    }
}
