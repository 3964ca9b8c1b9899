//! The sections `[[hook]]` and `[multipath]`: what is done when something happens.

use std::path::Path;
use std::time::Duration;

use pathpulse::State;

use super::pattern::Pattern;
use super::reader::{Section, Sourced, text, yes_or_no};
use super::values::{duration, show_duration};

/// States that an event may lead to; `removed` is none of the engine's.
const REMOVED: &str = "removed";
/// How long a program may run, if nothing else is said.
const LIMIT: Duration = Duration::from_secs(10);

/// A program that is run on events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hook {
    pub(super) line: usize,
    /// The program and its arguments, as they are: no shell reads them.
    pub(crate) run: Vec<String>,
    /// The states that are entered; all, if empty.
    on: Vec<String>,
    /// The paths it is for; all, if empty.
    matches: Vec<Pattern>,
    /// How long it may run.
    pub(crate) limit: Duration,
}

impl Hook {
    /// Reads a section; `None` if it says too little.
    pub(super) fn read(mut section: Section<'_, '_>) -> Option<Hook> {
        let plain = |list: Vec<Sourced<String>>| list.into_iter().map(|s| s.value).collect();
        let run = section.list("run", |word| Ok(word.to_owned()));
        let run: Vec<String> = run.map(plain).unwrap_or_default();
        let on = section.list("on", state);
        let matches = section.list("match", Pattern::new);
        let limit = section.take("timeout", |value| text(value).and_then(duration));
        let hook = Hook {
            line: section.line(),
            on: on.map(plain).unwrap_or_default(),
            matches: matches
                .map(|list| list.into_iter().map(|pattern| pattern.value).collect())
                .unwrap_or_default(),
            limit: limit.map_or(LIMIT, |limit| limit.value),
            run,
        };
        let is_program = hook.run.first().is_some_and(|name| name.starts_with('/'));
        if !is_program && (hook.run.is_empty() || !section.has("run")) {
            section.complain("say what to run: run = [\"/usr/local/bin/program\", \"argument\"]");
        } else if !is_program {
            section.complain("the program in `run` begins with a slash: no search path is used");
        }
        section.finish();
        is_program.then_some(hook)
    }

    /// Whether it is run for a path that goes from one state to another.
    pub(crate) fn is_for(&self, path: &Path, from: &str, to: &str) -> bool {
        let wanted = self.on.is_empty() || self.on.iter().any(|state| state == to);
        let paths = self.matches.is_empty() || self.matches.iter().any(|p| p.matches(path));
        from != to && wanted && paths
    }

    pub(super) fn show(&self) -> [(&'static str, String); 4] {
        let list = |words: Vec<&str>| {
            let quoted: Vec<String> = words.into_iter().map(super::show::quote).collect();
            format!("[{}]", quoted.join(", "))
        };
        [
            ("run", list(self.run.iter().map(String::as_str).collect())),
            ("on", list(self.on.iter().map(String::as_str).collect())),
            (
                "match",
                list(self.matches.iter().map(Pattern::text).collect()),
            ),
            ("timeout", super::show::quote(&show_duration(self.limit))),
        ]
    }
}

fn state(word: &str) -> Result<String, String> {
    let states = State::ALL.map(State::name);
    if states.contains(&word) || word == REMOVED {
        return Ok(word.to_owned());
    }
    let known = states.join(", ");
    Err(format!("`{word}` is no state; they are {known}, {REMOVED}"))
}

/// What is done to multipath maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Multipath {
    pub(super) line: usize,
    /// Paths that are down are taken out of their maps, and given back when they are up.
    pub(super) fail_paths: bool,
    /// The last one that works is taken out, too.
    pub(crate) last_too: bool,
}

impl Multipath {
    pub(super) fn read(mut section: Section<'_, '_>) -> Multipath {
        let mut yes = |key| section.take(key, yes_or_no).is_some_and(|yes| yes.value);
        let (fail_paths, last_too) = (yes("fail_paths"), yes("last_path_too"));
        let line = section.line();
        section.finish();
        Multipath {
            line,
            fail_paths,
            last_too,
        }
    }
}
