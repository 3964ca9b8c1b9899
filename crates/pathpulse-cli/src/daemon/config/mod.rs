//! The configuration: defaults, the file, and the command line, which has precedence.
//!
//! Here: parsing, validation, and which value applies to a path. Not here: acting on it. Text and
//! options come in; a `Configuration` goes to the daemon's other rooms.
//!
//! ```text
//! text ──reader──> File (sections as written, with their lines) ──┐
//! options of `run` ───────────────────────────────────────────────┴──> Configuration
//! ```
//! The settings of a path come from these sources; a later one has precedence: the defaults,
//! `[defaults]`, the `[[group]]` sections that match its group, the `[[path]]` sections that match
//! its name, the command line.

mod actions;
mod command_line;
mod discovery;
mod error;
mod file;
mod keys;
mod pattern;
mod problem;
mod reader;
mod show;
mod source;
mod text;
pub(crate) mod values;
mod watch;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pathpulse::{Choice, Config, PathSpec, Settings};

pub(crate) use actions::{Hook, Multipath};
pub(crate) use command_line::CommandLine;
pub(crate) use discovery::{Discovery, Names};
pub(crate) use error::ConfigError;
use file::File;
pub(crate) use pattern::Pattern;
pub(crate) use problem::Problem;
pub(crate) use source::{Source, Sourced};
pub(crate) use text::read;
pub(crate) use values::ChangeRights;
pub(crate) use watch::Layer;

/// The default of the daemon's socket.
pub(crate) const SOCKET: &str = "/run/pathpulse/pathpulse.sock";

/// The configuration of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) workers: Sourced<usize>,
    pub(crate) backend: Sourced<Choice>,
    pub(crate) socket: Sourced<PathBuf>,
    /// The group that may read the status, besides root.
    pub(crate) socket_group: Sourced<Option<String>>,
    pub(crate) changes: Sourced<ChangeRights>,
    pub(crate) http: Sourced<Option<SocketAddr>>,
    /// The file for the last events; `None`: the state directory of systemd, if there is one.
    pub(crate) state: Sourced<Option<PathBuf>>,
    file: File,
    /// The text of the file.
    text: Arc<str>,
    /// Settings of paths without a section.
    defaults: Layer,
    /// The path of the file.
    origin: Option<PathBuf>,
    /// Paths on the command line.
    named: Vec<PathBuf>,
    command_line: Layer,
}

type Reader = fn(&Path) -> Result<String, String>;

/// Reads the file, if there is one.
fn read_by(read: Reader, line: &CommandLine) -> Result<String, ConfigError> {
    let Some(file) = &line.file else {
        return Ok(String::new());
    };
    read(file).map_err(|why| ConfigError {
        file: file.clone(),
        problems: Vec::new(),
        unreadable: Some(why),
    })
}

impl Configuration {
    /// Reads the file, if there is one, and applies the command line.
    ///
    /// # Errors
    /// All problems of the file.
    pub(crate) fn load(line: &CommandLine) -> Result<Configuration, ConfigError> {
        Configuration::load_by(text::read, line)
    }

    /// Like [`Configuration::load`], for a process that must not hang if the file is on a disk that
    /// hangs.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub(crate) fn load_in_subprocess(line: &CommandLine) -> Result<Configuration, ConfigError> {
        Configuration::load_by(text::read_in_subprocess, line)
    }

    /// Reads the file again; `None` if its text has not changed.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub(crate) fn reload(
        line: &CommandLine,
        before: &str,
    ) -> Result<Option<Configuration>, ConfigError> {
        let text = read_by(text::read_in_subprocess, line)?;
        if text == before {
            return Ok(None);
        }
        Configuration::of_text(&text, line).map(Some)
    }

    fn load_by(read: Reader, line: &CommandLine) -> Result<Configuration, ConfigError> {
        Configuration::of_text(&read_by(read, line)?, line)
    }

    fn of_text(text: &str, line: &CommandLine) -> Result<Configuration, ConfigError> {
        Configuration::parse(text, line).map_err(|problems| ConfigError {
            file: line.file.clone().unwrap_or_default(),
            problems,
            unreadable: None,
        })
    }

    /// Parses the text of a file and applies the command line.
    ///
    /// # Errors
    /// All problems of the text.
    pub(crate) fn parse(text: &str, line: &CommandLine) -> Result<Configuration, Vec<Problem>> {
        use Source::CommandLine;
        let mut file = File::parse(text)?;
        let mut defaults = file.defaults.clone();
        defaults.add(&line.watch);
        Ok(Configuration {
            workers: Sourced::first((line.workers, CommandLine), file.workers.take(), 1),
            backend: Sourced::first(
                (line.backend, line.source("backend")),
                file.backend.take(),
                Choice::Auto,
            ),
            socket: Sourced::first(
                (line.socket.clone(), line.source("socket")),
                file.socket.take(),
                SOCKET.into(),
            ),
            socket_group: Sourced::first((None, CommandLine), file.socket_group.take(), None),
            changes: Sourced::first((None, CommandLine), file.changes.take(), ChangeRights::Root),
            http: Sourced::first((line.http.map(Some), CommandLine), file.http.take(), None),
            state: Sourced::first(
                (line.state.clone().map(Some), CommandLine),
                file.state.take(),
                None,
            ),
            file,
            text: text.into(),
            defaults,
            origin: line.file.clone(),
            named: line.paths.clone(),
            command_line: line.watch.clone(),
        })
    }

    /// The text of the file; empty without a file.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The configuration of the engine.
    pub(crate) fn engine(&self) -> Config {
        Config {
            backend: self.backend.value,
            workers: self.workers.value,
            settings: self.defaults.settings(),
            ..Config::default()
        }
    }

    /// The values that differ from `before` and can't change while the daemon runs.
    pub(crate) fn changes_needing_restart(&self, before: &Configuration) -> Vec<String> {
        let other = [
            ("workers", self.workers.value != before.workers.value),
            ("backend", self.backend.value != before.backend.value),
            ("socket", self.socket.value != before.socket.value),
            (
                "socket_group",
                self.socket_group.value != before.socket_group.value,
            ),
            ("changes", self.changes.value != before.changes.value),
            ("http", self.http.value != before.http.value),
            ("state", self.state.value != before.state.value),
        ];
        let other = other.iter().filter(|(_, other)| *other);
        other
            .map(|(key, _)| {
                format!("{key}: the new value takes effect at the next start of the daemon")
            })
            .collect()
    }

    /// The rules of discovery; `None` if no disks are discovered.
    pub(crate) fn discovery(&self) -> Option<&Discovery> {
        self.file.discovery.as_ref()
    }

    /// Programs that run on events.
    pub(crate) fn hooks(&self) -> &[Hook] {
        &self.file.hooks
    }

    /// The actions on multipath maps; `None` if there are none.
    pub(crate) fn multipath(&self) -> Option<Multipath> {
        self.file.multipath.filter(|multipath| multipath.fail_paths)
    }

    /// The named paths in the order in which they were named, with where.
    pub(crate) fn named(&self) -> Vec<(&Path, Source)> {
        let mut known = HashSet::new();
        let all = self.mentioned();
        all.filter(|(name, _)| known.insert(*name)).collect()
    }

    /// The same names as a set.
    pub(crate) fn names(&self) -> HashSet<&Path> {
        self.mentioned().map(|(name, _)| name).collect()
    }

    fn mentioned(&self) -> impl Iterator<Item = (&Path, Source)> {
        let on_line = self.named.iter().map(|path| (&**path, Source::CommandLine));
        let listed = self.file.paths.iter().map(|p| (&*p.value, p.source));
        let sections = self.file.sections.iter();
        let sections = sections.filter_map(|s| Some((s.named()?, Source::Line(s.line))));
        on_line.chain(listed).chain(sections)
    }

    /// The configured group of a path.
    pub(crate) fn group_of(&self, name: &Path) -> Option<&str> {
        let sections = self.file.of_path(name);
        let groups = sections.filter_map(|section| Some(section.group.as_ref()?.value.as_str()));
        groups.last()
    }

    /// Whether settings depend on groups, so that the group of a path has to be known.
    pub(crate) fn has_group_sections(&self) -> bool {
        !self.file.groups.is_empty()
    }

    /// The settings that apply to a path. `group` is the configured group, or the kernel's.
    fn layer_of(&self, name: &Path, group: Option<&str>) -> Layer {
        let mut layer = self.file.defaults.clone();
        for section in self.file.of_group(group) {
            layer.add(&section.watch);
        }
        for section in self.file.of_path(name) {
            layer.add(&section.watch);
        }
        layer.add(&self.command_line);
        layer
    }

    /// The settings of a path.
    pub(crate) fn settings_of(&self, name: &Path, group: Option<&str>) -> Settings {
        if self.file.sections.is_empty() && !self.has_group_sections() {
            return self.defaults.settings();
        }
        self.layer_of(name, group).settings()
    }

    /// What the engine is told about a path. The engine asks the kernel for the group if none is
    /// configured.
    pub(crate) fn spec(&self, name: &Path) -> PathSpec {
        let group = self.group_of(name);
        PathSpec {
            path: name.to_owned(),
            group: group.map(str::to_owned),
            settings: Some(self.settings_of(name, group)),
        }
    }
}

#[cfg(test)]
mod tests;
