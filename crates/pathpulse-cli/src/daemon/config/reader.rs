//! Reads TOML tables key by key. A key that was not read is an error, with the most similar known
//! key as a suggestion.
//!
//! All problems are collected, each with its line and column, so that the user sees all at once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::problem::ProblemReport;
use super::source::{Source, Sourced};

/// The least similarity (Jaro-Winkler) of a suggestion.
const ALIKE: f64 = 0.7;

/// A table that is being read.
pub(crate) struct Section<'r, 't> {
    table: &'r DeTable<'t>,
    /// The position of the table.
    pub(crate) span: Range<usize>,
    /// `[name]`; empty for the whole file.
    title: String,
    known: Vec<&'static str>,
    report: &'r ProblemReport<'t>,
}

impl<'r, 't> Section<'r, 't> {
    /// The whole file.
    pub(crate) fn whole(table: &'r Spanned<DeTable<'t>>, report: &'r ProblemReport<'t>) -> Self {
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

    /// Whether a key exists.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key, if it exists and `read` accepts it.
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

    /// Like [`Section::take`], with a default value.
    pub(crate) fn take_or<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
        default: T,
    ) -> Sourced<T> {
        self.take(key, read).unwrap_or(Sourced::default(default))
    }

    /// The strings of an array as one value, at the position of the array.
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

    /// The strings of an array, each parsed by `read`.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Sourced<T>>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            let what = format!("{key}: expected a list of strings, found {}", kind(value));
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

    /// A table in this table.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Section<'r, 't>> {
        let value = self.get(key)?;
        self.open(value, format!("[{key}]"))
    }

    /// The tables of an array of tables in this table.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            let what = format!("{key}: expected an array of tables: write [[{key}]]");
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
            let what = format!("expected a table {title}, found {}", kind(value));
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

    /// Adds a problem at the position of the table.
    pub(crate) fn add_problem(&self, what: &str) {
        let colon = if self.title.is_empty() { "" } else { ": " };
        self.report
            .add(&self.span, format!("{}{colon}{what}", self.title));
    }

    /// The line of the table.
    pub(crate) fn line(&self) -> usize {
        self.report.line(&self.span)
    }

    /// Reports the keys that were not read.
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
                    elsewhere().unwrap_or_else(|| format!("known keys: {}", self.known.join(", ")))
                }
            };
            let what = format!("unknown key `{}`{place}; {hint}", name.escape_debug());
            self.report.add(&key.span(), what);
        }
    }
}

/// The most similar known key.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // A long name would take long to compare, and is similar to none.
    let name: String = name.chars().take(64).collect();
    let alike = |key: &&'k str| (strsim::jaro_winkler(&name.to_lowercase(), key), *key);
    let best = known.iter().map(alike);
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

/// The kind of a value, for problems.
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

/// Parses a string.
pub(crate) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    let text = value.as_str();
    text.ok_or_else(|| "expected a string in quotes".to_owned())
}

/// Parses `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    let answer = value.as_bool();
    answer.ok_or_else(|| "expected true or false, without quotes".to_owned())
}

/// Parses an integer in a range.
pub(crate) fn integer(value: &DeValue<'_>, limits: &Range<u64>) -> Result<u64, String> {
    let DeValue::Integer(number) = value else {
        return Err("expected a whole number, without quotes".to_owned());
    };
    let read = u64::from_str_radix(number.as_str(), number.radix()).ok();
    read.filter(|number| limits.contains(number))
        .ok_or_else(|| format!("expected {} to {}", limits.start, limits.end - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(source: &str) -> Vec<String> {
        let report = ProblemReport::new(source);
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
                "5:15: names: expected a string in quotes",
                "6:1: unknown key `xyz` in [[path]]; known keys: names",
            ]
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused() {
        assert_eq!(
            problems("interval = 2\ndaemon = 1\npath = 'x'\n"),
            [
                "1:12: interval: expected a string in quotes",
                "2:10: expected a table [daemon], found a number",
                "3:8: path: expected an array of tables: write [[path]]",
            ]
        );
        assert_eq!(
            problems("[daemon]\nworkers = 257"),
            ["2:11: workers: expected 1 to 256"]
        );
        assert_eq!(
            problems("[daemon]\nworkers = '1'"),
            ["2:11: workers: expected a whole number, without quotes"]
        );
    }
}
