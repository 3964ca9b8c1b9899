//! What the daemon is to do: defaults, what the file says, and above all what the command line says.
//!
//! ```text
//! text ──reader──> File (sections as written, with their lines) ──┐
//! options of `run` ───────────────────────────────────────────────┴──> Configuration
//! ```
//! How a path is watched is what these say, the later ones first: the defaults, `[defaults]`, the
//! `[[group]]`s that match its group, the `[[path]]`s that match its name, the command line.

mod actions;
mod discovery;
mod file;
mod keys;
mod pattern;
mod reader;
mod show;
mod text;
pub(crate) mod values;
mod watch;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pathpulse::{Choice, Config, PathSpec, Settings};

pub(crate) use actions::{Hook, Multipath};
pub(crate) use discovery::{Discovery, Names};
use file::File;
pub(crate) use pattern::Pattern;
pub(crate) use reader::{Problem, Source, Sourced};
pub(crate) use text::read;
pub(crate) use values::Changes;
pub(crate) use watch::Layer;

/// The daemon's socket, if nothing else is said.
pub(crate) const SOCKET: &str = "/run/pathpulse/pathpulse.sock";

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandLine {
    pub(crate) file: Option<PathBuf>,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) watch: Layer,
    pub(crate) workers: Option<usize>,
    pub(crate) backend: Option<Choice>,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) state: Option<PathBuf>,
    /// The variables of the environment that gave one of these instead, by what they gave.
    pub(crate) from_environment: Vec<(&'static str, &'static str)>,
}

impl CommandLine {
    /// Where one of these was given.
    fn source(&self, of: &str) -> Source {
        let mut variables = self.from_environment.iter();
        let variable = variables.find(|(given, _)| *given == of);
        variable.map_or(Source::CommandLine, |(_, variable)| {
            Source::Environment(variable)
        })
    }
}

/// What the daemon is to do.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) workers: Sourced<usize>,
    pub(crate) backend: Sourced<Choice>,
    pub(crate) socket: Sourced<PathBuf>,
    /// Who may look, besides root.
    pub(crate) socket_group: Sourced<Option<String>>,
    pub(crate) changes: Sourced<Changes>,
    pub(crate) http: Sourced<Option<SocketAddr>>,
    /// Where the last events are kept; `None`: where systemd says, if it does.
    pub(crate) state: Sourced<Option<PathBuf>>,
    file: File,
    /// The file as it was read.
    text: Arc<str>,
    /// What is said of paths of which nothing else is.
    usual: Layer,
    /// Where the file is.
    origin: Option<PathBuf>,
    /// Named on the command line.
    named: Vec<PathBuf>,
    command_line: Layer,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// Where the file is.
    pub(crate) file: PathBuf,
    /// What is wrong with it; none when it can't be read at all.
    pub(crate) problems: Vec<Problem>,
    /// Why it can't be read.
    pub(crate) unreadable: Option<String>,
}

impl ConfigError {
    /// Each problem on a line, as compilers write them.
    pub(crate) fn lines(&self) -> Vec<String> {
        let file = self.file.display();
        let problems = self.problems.iter();
        let mut lines: Vec<String> = problems
            .map(|problem| format!("{file}:{problem}"))
            .collect();
        lines.extend(self.unreadable.iter().map(|why| format!("{file}: {why}")));
        lines
    }

    /// The first problem, and how many there are.
    pub(crate) fn line(&self) -> String {
        let lines = self.lines();
        let first = lines.first().map_or("", String::as_str);
        match lines.len() {
            0 | 1 => first.to_owned(),
            count => format!(
                "{first} (and {} more: `pathpulse config check {}`)",
                count - 1,
                self.file.display()
            ),
        }
    }
}

type Reader = fn(&Path) -> Result<String, String>;

/// The text of the file, if there is one.
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
    /// Reads the file, if there is one, and adds what the command line says.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub(crate) fn load(line: &CommandLine) -> Result<Configuration, ConfigError> {
        Configuration::load_by(text::read, line)
    }

    /// The same, for a process that is not to be kept by a file on a disk that hangs.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub(crate) fn load_apart(line: &CommandLine) -> Result<Configuration, ConfigError> {
        Configuration::load_by(text::read_apart, line)
    }

    /// The same once more; `None` if the file has the text that it had before.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub(crate) fn load_again(
        line: &CommandLine,
        before: &str,
    ) -> Result<Option<Configuration>, ConfigError> {
        let text = read_by(text::read_apart, line)?;
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

    /// What a file with this text says, and the command line above all.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub(crate) fn parse(text: &str, line: &CommandLine) -> Result<Configuration, Vec<Problem>> {
        use Source::CommandLine;
        let mut file = File::parse(text)?;
        let mut usual = file.defaults.clone();
        usual.add(&line.watch);
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
            changes: Sourced::first((None, CommandLine), file.changes.take(), Changes::Root),
            http: Sourced::first((line.http.map(Some), CommandLine), file.http.take(), None),
            state: Sourced::first(
                (line.state.clone().map(Some), CommandLine),
                file.state.take(),
                None,
            ),
            file,
            text: text.into(),
            usual,
            origin: line.file.clone(),
            named: line.paths.clone(),
            command_line: line.watch.clone(),
        })
    }

    /// The file as it was read; empty if there is none.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// For the engine.
    pub(crate) fn engine(&self) -> Config {
        Config {
            backend: self.backend.value,
            workers: self.workers.value,
            settings: self.usual.settings(),
        }
    }

    /// What is other than `before`, and can't be changed while the daemon runs.
    pub(crate) fn needs_start(&self, before: &Configuration) -> Vec<String> {
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
            .map(|(key, _)| format!("{key} will be another one at the next start of the daemon"))
            .collect()
    }

    /// Which disks are watched without being named; `None`: none.
    pub(crate) fn discovery(&self) -> Option<&Discovery> {
        self.file.discovery.as_ref()
    }

    /// Programs that are run on events.
    pub(crate) fn hooks(&self) -> &[Hook] {
        &self.file.hooks
    }

    /// What is done to multipath maps; `None`: nothing.
    pub(crate) fn multipath(&self) -> Option<Multipath> {
        self.file.multipath.filter(|multipath| multipath.fail_paths)
    }

    /// What is to be watched by name, in the order in which it was named, and where.
    pub(crate) fn named(&self) -> Vec<(&Path, Source)> {
        let mut known = HashSet::new();
        let all = self.mentioned();
        all.filter(|(name, _)| known.insert(*name)).collect()
    }

    /// The same names, in no order.
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

    /// The group of a path, if one is said.
    pub(crate) fn group_of(&self, name: &Path) -> Option<&str> {
        let sections = self.file.of_path(name);
        let groups = sections.filter_map(|section| Some(section.group.as_ref()?.value.as_str()));
        groups.last()
    }

    /// Whether anything is said of groups, so that a path's has to be known.
    pub(crate) fn speaks_of_groups(&self) -> bool {
        !self.file.groups.is_empty()
    }

    /// What is said of a path; `group` is what is said, or what the kernel says.
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

    /// How a path is watched.
    pub(crate) fn settings_of(&self, name: &Path, group: Option<&str>) -> Settings {
        if self.file.sections.is_empty() && !self.speaks_of_groups() {
            return self.usual.settings();
        }
        self.layer_of(name, group).settings()
    }

    /// For the engine, which asks the kernel for the group if none is said.
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
