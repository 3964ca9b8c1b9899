//! The sections `[[hook]]` and `[multipath]`: what is done when something happens.

use std::path::Path;
use std::time::Duration;

use pathpulse::State;

use super::pattern::Pattern;
use super::reader::{Section, Source, text, with_sources, yes_or_no};
use super::values::{duration, show_duration};

/// States that an event may lead to; `removed` is none of the engine's.
const REMOVED: &str = "removed";
/// How long a program may run, if nothing else is said.
const LIMIT: Duration = Duration::from_secs(10);

/// A program that is run on events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hook {
    /// Where each key was given, in the order in which they are shown.
    sources: [Source; 4],
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
        let run = section.list_or("run", |word| Ok(word.to_owned()), Vec::new());
        let on = section.list_or("on", state, Vec::new());
        let matches = section.list_or("match", Pattern::of_paths, Vec::new());
        let limit = section.take_or("timeout", |value| text(value).and_then(duration), LIMIT);
        let hook = Hook {
            sources: [run.source, on.source, matches.source, limit.source],
            run: run.value,
            on: on.value,
            matches: matches.value,
            limit: limit.value,
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

    pub(super) fn show(&self) -> [(&'static str, String, Source); 4] {
        let list = |words: Vec<&str>| {
            let quoted: Vec<String> = words.into_iter().map(super::show::quote).collect();
            format!("[{}]", quoted.join(", "))
        };
        let values = [
            ("run", list(self.run.iter().map(String::as_str).collect())),
            ("on", list(self.on.iter().map(String::as_str).collect())),
            (
                "match",
                list(self.matches.iter().map(Pattern::text).collect()),
            ),
            ("timeout", super::show::quote(&show_duration(self.limit))),
        ];
        with_sources(values, self.sources)
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
    /// Where the two keys were given.
    pub(super) sources: [Source; 2],
    /// Paths that are down are taken out of their maps, and given back when they are up.
    pub(super) fail_paths: bool,
    /// The last one that works is taken out, too.
    pub(crate) last_too: bool,
}

impl Multipath {
    pub(super) fn read(mut section: Section<'_, '_>) -> Multipath {
        let mut yes = |key| section.take_or(key, yes_or_no, false);
        let (fail_paths, last_too) = (yes("fail_paths"), yes("last_path_too"));
        section.finish();
        Multipath {
            sources: [fail_paths.source, last_too.source],
            fail_paths: fail_paths.value,
            last_too: last_too.value,
        }
    }
}
