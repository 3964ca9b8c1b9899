//! Reads tables of TOML key by key, and remembers what was asked for: what is there besides is an
//! error, with the nearest known key as a suggestion.
//!
//! All that is wrong is collected, each with its line and column, so that one look shows all.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;

/// Keys that are less alike than this are no suggestion.
const ALIKE: f64 = 0.7;

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// The cause, and what to do.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// Where a value was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere.
    #[default]
    Default,
    /// In this line of the file.
    Line(usize),
    /// On the command line.
    CommandLine,
    /// In this variable of the environment.
    Environment(&'static str),
}

/// A value, and where it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// Keys with their values, each with where it was given.
pub(super) fn with_sources<const KEYS: usize>(
    values: [(&'static str, String); KEYS],
    sources: [Source; KEYS],
) -> [(&'static str, String, Source); KEYS] {
    let mut sources = sources.into_iter();
    values.map(|(key, value)| (key, value, sources.next().unwrap_or_default()))
}

impl<T> Sourced<T> {
    /// A value that was given nowhere.
    pub(crate) fn default(value: T) -> Sourced<T> {
        Sourced {
            value,
            source: Source::Default,
        }
    }

    /// What was given on the command line (or where `source` says), else in the file, else this.
    pub(crate) fn first(
        (command_line, source): (Option<T>, Source),
        file: Option<Sourced<T>>,
        default: T,
    ) -> Sourced<T> {
        command_line
            .map(|value| Sourced { value, source })
            .or(file)
            .unwrap_or(Sourced::default(default))
    }
}

/// A text, and what is wrong with it.
pub(crate) struct Report<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    /// Nothing is wrong yet.
    pub(crate) fn new(text: &'t str) -> Report<'t> {
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        Report {
            text,
            lines: std::iter::once(0).chain(ends).collect(),
            problems: RefCell::default(),
        }
    }

    /// Something is wrong at this place.
    pub(crate) fn add(&self, at: &Range<usize>, what: impl Into<String>) {
        let (line, column) = self.place(at.start);
        let what = what.into();
        self.problems
            .borrow_mut()
            .push(Problem { line, column, what });
    }

    /// The line and the column of a place in bytes, both from 1.
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

    /// All that is wrong, from top to bottom.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

/// A table that is being read.
pub(crate) struct Section<'r, 't> {
    table: &'r DeTable<'t>,
    /// Where it begins.
    pub(crate) span: Range<usize>,
    /// `[name]`, or nothing for the outermost.
    title: String,
    known: Vec<&'static str>,
    report: &'r Report<'t>,
}

impl<'r, 't> Section<'r, 't> {
    /// The whole file.
    pub(crate) fn whole(table: &'r Spanned<DeTable<'t>>, report: &'r Report<'t>) -> Self {
        Section {
            table: table.get_ref(),
            span: 0..0,
            title: String::new(),
            known: Vec::new(),
            report,
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'r Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key, if it is there and `read` likes it.
    pub(crate) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        let value = self.get(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(Sourced {
                value: read,
                source: Source::Line(self.report.line(&value.span())),
            }),
            Err(why) => {
                self.report.add(&value.span(), format!("{key}: {why}"));
                None
            }
        }
    }

    /// The same, with what it is if the file does not say.
    pub(crate) fn take_or<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
        default: T,
    ) -> Sourced<T> {
        self.take(key, read).unwrap_or(Sourced::default(default))
    }

    /// The strings of an array as one value, from where the array begins.
    pub(crate) fn list_or<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
        default: Vec<T>,
    ) -> Sourced<Vec<T>> {
        let Some(list) = self.list(key, read) else {
            return Sourced::default(default);
        };
        let line = self
            .table
            .get(key)
            .map_or(0, |value| self.report.line(&value.span()));
        Sourced {
            value: list.into_iter().map(|one| one.value).collect(),
            source: Source::Line(line),
        }
    }

    /// The strings of an array, each read by `read`.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Sourced<T>>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            let what = format!("{key}: {} where a list of strings belongs", kind(value));
            self.report.add(&value.span(), what);
            return None;
        };
        let one = |value: &Spanned<DeValue<'t>>| match text(value.get_ref()).and_then(&read) {
            Ok(value_read) => Some(Sourced {
                value: value_read,
                source: Source::Line(self.report.line(&value.span())),
            }),
            Err(why) => {
                self.report.add(&value.span(), format!("{key}: {why}"));
                None
            }
        };
        Some(array.iter().filter_map(one).collect())
    }

    /// A table within this one.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Section<'r, 't>> {
        let value = self.get(key)?;
        self.open(value, format!("[{key}]"))
    }

    /// The tables of an array of tables within this one.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            let what = format!("{key}: write [[{key}]], there may be several");
            self.report.add(&value.span(), what);
            return Vec::new();
        };
        let opened = array
            .iter()
            .filter_map(|value| self.open(value, format!("[[{key}]]")));
        opened.collect()
    }

    fn open(&self, value: &'r Spanned<DeValue<'t>>, title: String) -> Option<Section<'r, 't>> {
        let DeValue::Table(table) = value.get_ref() else {
            let what = format!("{} where a table {title} belongs", kind(value));
            self.report.add(&value.span(), what);
            return None;
        };
        Some(Section {
            table,
            span: value.span(),
            title,
            known: Vec::new(),
            report: self.report,
        })
    }

    /// Says that something is wrong with the whole of it.
    pub(crate) fn complain(&self, what: &str) {
        let colon = if self.title.is_empty() { "" } else { ": " };
        self.report
            .add(&self.span, format!("{}{colon}{what}", self.title));
    }

    /// The line in which it begins.
    pub(crate) fn line(&self) -> usize {
        self.report.line(&self.span)
    }

    /// Complains of what is there and was not asked for.
    pub(crate) fn finish(self) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let place = match self.title.as_str() {
                "" => String::new(),
                title => format!(" in {title}"),
            };
            let elsewhere = || {
                let key = nearest(name, &keys::all())?;
                let place = keys::place_of(key)?;
                Some(format!("did you mean `{key}`, which belongs {place}?"))
            };
            let hint = match (keys::place_of(name), nearest(name, &self.known)) {
                (Some(place), _) => format!("it belongs {place}"),
                (None, Some(known)) => format!("did you mean `{known}`?"),
                (None, None) => {
                    elsewhere().unwrap_or_else(|| format!("known are {}", self.known.join(", ")))
                }
            };
            let what = format!("unknown key `{}`{place}; {hint}", name.escape_debug());
            self.report.add(&key.span(), what);
        }
    }
}

/// The known key that is most like this one.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // A long name would take long to compare, and is like none.
    let name: String = name.chars().take(64).collect();
    let alike = |key: &&'k str| (strsim::jaro_winkler(&name.to_lowercase(), key), *key);
    let best = known.iter().map(alike);
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

/// What kind of value it is, for complaints.
fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Reads a string.
pub(crate) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    let text = value.as_str();
    text.ok_or_else(|| "a string in quotes belongs here".to_owned())
}

/// Reads `true` or `false`.
pub(crate) fn yes_or_no(value: &DeValue<'_>) -> Result<bool, String> {
    let answer = value.as_bool();
    answer.ok_or_else(|| "true or false belongs here, without quotes".to_owned())
}

/// Reads an integer within limits.
pub(crate) fn integer(value: &DeValue<'_>, limits: &Range<u64>) -> Result<u64, String> {
    let DeValue::Integer(number) = value else {
        return Err("a whole number belongs here, without quotes".to_owned());
    };
    let read = u64::from_str_radix(number.as_str(), number.radix()).ok();
    read.filter(|number| limits.contains(number))
        .ok_or_else(|| format!("it is from {} to {}", limits.start, limits.end - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(source: &str) -> Vec<String> {
        let report = Report::new(source);
        let table = DeTable::parse(source).expect("TOML");
        let mut whole = Section::whole(&table, &report);
        whole.take("interval", |value| text(value).map(str::to_owned));
        if let Some(mut section) = whole.section("daemon") {
            section.take("workers", |value| integer(value, &(1..257)));
            section.finish();
        }
        for mut section in whole.sections("path") {
            section.list("names", |name| Ok(name.to_owned()));
            section.finish();
        }
        whole.finish();
        report.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_problem_has_its_place_and_unknown_keys_a_suggestion() {
        let said = problems(
            "intervall = '1s'\n[daemon]\n  wrokers = 3\n[[path]]\nnames = ['ä', 3]\nxyz = 1\n",
        );
        assert_eq!(
            said,
            [
                "1:1: unknown key `intervall`; did you mean `interval`?",
                "3:3: unknown key `wrokers` in [daemon]; did you mean `workers`?",
                "5:15: names: a string in quotes belongs here",
                "6:1: unknown key `xyz` in [[path]]; known are names",
            ]
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused() {
        assert_eq!(
            problems("interval = 2\ndaemon = 1\npath = 'x'\n"),
            [
                "1:12: interval: a string in quotes belongs here",
                "2:10: a number where a table [daemon] belongs",
                "3:8: path: write [[path]], there may be several",
            ]
        );
        assert_eq!(
            problems("[daemon]\nworkers = 257"),
            ["2:11: workers: it is from 1 to 256"]
        );
        assert_eq!(
            problems("[daemon]\nworkers = '1'"),
            ["2:11: workers: a whole number belongs here, without quotes"]
        );
    }
}
