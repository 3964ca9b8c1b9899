//! The sections `[[hook]]` and `[multipath]`: the actions on events.

use std::path::Path;
use std::time::Duration;

use pathpulse::State;

use super::pattern::Pattern;
use super::reader::{Section, boolean, text};
use super::source::{Source, with_sources};
use super::values::{duration, show_duration};
use crate::api::PathState;

/// The time limit of a program without `timeout`.
const LIMIT: Duration = Duration::from_secs(10);

/// A program that is run on events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hook {
    /// Where each key was given, in the order of [`Hook::show`].
    sources: [Source; 4],
    /// The program and its arguments. No shell interprets them.
    pub(crate) run: Vec<String>,
    /// The states to which an event must lead; all states if empty.
    on: Vec<PathState>,
    /// The paths of the events; all paths if empty.
    matches: Vec<Pattern>,
    /// The time limit of the program.
    pub(crate) limit: Duration,
}

impl Hook {
    /// Reads a section; `None` if it has no valid program.
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
            section.add_problem(
                "missing program: add run = [\"/usr/local/bin/program\", \"argument\"]",
            );
        } else if !is_program {
            section.add_problem(
                "the program in `run` must begin with a slash: no search path is used",
            );
        }
        section.finish();
        is_program.then_some(hook)
    }

    /// Whether the program runs for an event of this path between these states.
    pub(crate) fn is_for(&self, path: &Path, from: &PathState, to: &PathState) -> bool {
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
            ("on", list(self.on.iter().map(PathState::as_str).collect())),
            (
                "match",
                list(self.matches.iter().map(Pattern::text).collect()),
            ),
            ("timeout", super::show::quote(&show_duration(self.limit))),
        ];
        with_sources(values, self.sources)
    }
}

/// Reads a state that an event may lead to: those of the engine, and `removed`.
fn state(word: &str) -> Result<PathState, String> {
    let engine = State::ALL.map(PathState::from);
    let mut states = engine.iter().chain([&PathState::Removed]);
    states
        .clone()
        .find(|state| state.as_str() == word)
        .cloned()
        .ok_or_else(|| {
            let known: Vec<&str> = states.by_ref().map(PathState::as_str).collect();
            format!(
                "invalid state `{word}`: expected one of {}",
                known.join(", ")
            )
        })
}

/// The configuration of the actions on multipath maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Multipath {
    /// Where the two keys were given.
    pub(super) sources: [Source; 2],
    /// Take paths that are down out of their maps, and reinstate them when they are up.
    pub(super) fail_paths: bool,
    /// Take the last path that works out of its map, too.
    pub(crate) last_too: bool,
}

impl Multipath {
    pub(super) fn read(mut section: Section<'_, '_>) -> Multipath {
        let mut yes = |key| section.take_or(key, boolean, false);
        let (fail_paths, last_too) = (yes("fail_paths"), yes("last_path_too"));
        section.finish();
        Multipath {
            sources: [fail_paths.source, last_too.source],
            fail_paths: fail_paths.value,
            last_too: last_too.value,
        }
    }
}
