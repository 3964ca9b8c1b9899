//! Violations: how they are reported, and which are tolerated.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use crate::repository::root;

/// The tolerated violations: a line for each rule and file, `RULE COUNT FILE`.
const LIST: &str = "tests/house_rules/known.txt";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Size,
    Unsafe,
    Width,
    Words,
    Rooms,
    Workplace,
    Links,
}

impl Rule {
    /// The name in the list.
    fn name(self) -> &'static str {
        match self {
            Rule::Size => "size",
            Rule::Unsafe => "unsafe",
            Rule::Width => "width",
            Rule::Words => "words",
            Rule::Rooms => "rooms",
            Rule::Workplace => "workplace",
            Rule::Links => "links",
        }
    }
}

/// One place where a rule is broken.
pub(crate) struct Violation {
    pub(crate) file: String,
    /// 0 for the file as a whole.
    pub(crate) line: usize,
    /// What is wrong, and what to do.
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(file: &str, line: usize, what: impl Into<String>) -> Violation {
        Violation {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { file, line, what } = self;
        match line {
            0 => write!(f, "{file}: {what}"),
            _ => write!(f, "{file}:{line}: {what}"),
        }
    }
}

type Counts = BTreeMap<String, usize>;

/// Fails when there are more violations than the list tolerates, or fewer.
pub(crate) fn check(rule: Rule, found: &[Violation]) {
    let mut counts = Counts::new();
    for violation in found {
        *counts.entry(violation.file.clone()).or_default() += 1;
    }
    let shrink = env::var_os("HOUSE_RULES").is_some_and(|value| value == "shrink");
    if shrink {
        lower(rule, &counts);
    }
    let known = known(rule);
    let mut report = String::new();
    for violation in found {
        let tolerated = known.get(&violation.file).copied().unwrap_or_default();
        if counts[&violation.file] > tolerated {
            let _ = writeln!(report, "{}: {violation}", rule.name());
        }
    }
    for (file, tolerated) in &known {
        let count = counts.get(file).copied().unwrap_or_default();
        if count < *tolerated {
            let _ = writeln!(
                report,
                "{}: {file}: {LIST} tolerates {tolerated}, but there are {count}; \
                 run HOUSE_RULES=shrink cargo test --test house_rules",
                rule.name()
            );
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// What the list tolerates of this rule.
fn known(rule: Rule) -> Counts {
    let text = fs::read_to_string(root().join(LIST)).expect("the list can be read");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let entries =
        lines.map(|line| parse(line).unwrap_or_else(|| panic!("{LIST}: invalid line: {line}")));
    let of_rule = entries.filter(|(name, _, _)| *name == rule.name());
    of_rule
        .map(|(_, count, file)| (file.to_owned(), count))
        .collect()
}

fn parse(line: &str) -> Option<(&str, usize, &str)> {
    let (rule, rest) = line.split_once(' ')?;
    let (count, file) = rest.split_once(' ')?;
    Some((rule, count.parse().ok()?, file))
}

/// Writes the counts of this rule to the list, unless their sum has grown. Files may have been
/// renamed.
fn lower(rule: Rule, counts: &Counts) {
    // The tests of all rules run at a time, and write the same file.
    static LIST_LOCK: Mutex<()> = Mutex::new(());
    let _guard = LIST_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if counts.values().sum::<usize>() > known(rule).values().sum() {
        return;
    }
    let path = root().join(LIST);
    let text = fs::read_to_string(&path).expect("the list can be read");
    let prefix = format!("{} ", rule.name());
    let others = text
        .lines()
        .filter(|line| !line.starts_with(&prefix))
        .map(str::to_owned);
    let own = counts
        .iter()
        .map(|(file, count)| format!("{prefix}{count} {file}"));
    let mut lines: Vec<String> = others.chain(own).collect();
    // The first lines say what the file is.
    lines.sort_by_key(|line| {
        (!line.starts_with('#')).then(|| line.split(' ').next().map(str::to_owned))
    });
    fs::write(path, lines.join("\n") + "\n").expect("the list can be written");
}
