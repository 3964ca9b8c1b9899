//! The effective configuration as text, with the source of each value.

use std::fmt::{Display, Write};
use std::path::Path;

use pathpulse::display_name;

use super::file::{GLOB_IN_PATHS, Subject, literal};
use super::watch::Layer;
use super::{Configuration, Source};

/// The column of the remarks, unless the value is longer.
const COLUMN: usize = 40;

/// Writes the text.
struct ConfigWriter<'c> {
    text: String,
    configuration: &'c Configuration,
}

impl ConfigWriter<'_> {
    fn title(&mut self, title: &str) {
        let _ = write!(self.text, "\n{title}\n");
    }

    fn line(&mut self, key: &str, value: impl Display, source: Source) {
        let said = format!("{key} = {value}");
        let place = self.configuration.place(source);
        let _ = writeln!(self.text, "{said:<COLUMN$} # {place}");
    }

    /// The name of a file on the command line may be relative to the working directory.
    fn file(&mut self, key: &str, file: &Path, source: Source) {
        let absolute = std::path::absolute(file);
        let file = absolute.as_deref().unwrap_or(file);
        match file.to_str() {
            Some(name) => self.line(key, quote(name), source),
            None => {
                let (name, place) = (display_name(file), self.configuration.place(source));
                let _ = writeln!(self.text, "# {key} is {name}, {NO_TEXT}; {place}");
            }
        }
    }

    fn layer(&mut self, layer: &Layer) {
        for (key, value, source) in layer.show() {
            self.line(key, value, source);
        }
    }

    /// The keys of a section that the command line does not override.
    fn section(&mut self, layer: &Layer) {
        let mut in_force = layer.clone();
        in_force.add(&self.configuration.command_line);
        for ((key, value, source), (_, _, given)) in in_force.show().zip(layer.show()) {
            if given != Source::Default {
                self.line(key, value, source);
            }
        }
    }

    fn subject(&mut self, subject: &Subject, line: usize) {
        let (key, name) = match subject {
            Subject::Name(name) => ("name", name.as_str()),
            Subject::Match(pattern) => ("match", pattern.text()),
        };
        self.line(key, quote(name), Source::Line(line));
    }

    /// The list of paths.
    fn paths(&mut self) {
        let configuration = self.configuration;
        self.text.push_str("paths = [\n");
        for (path, source) in configuration.named() {
            let place = configuration.place(source);
            match in_file(path) {
                Ok(name) => {
                    let name = quote(name) + ",";
                    let _ = writeln!(self.text, "    {name:<0$} # {place}", COLUMN - 4);
                }
                Err(why) => {
                    let name = display_name(path);
                    let _ = writeln!(self.text, "    # {name} {why}; {place}");
                }
            }
        }
        self.text.push_str("]\n");
    }

    /// The section `[daemon]`.
    fn daemon(&mut self) {
        let configuration = self.configuration;
        self.title("[daemon]");
        self.line(
            "workers",
            configuration.workers.value,
            configuration.workers.source,
        );
        let backend = quote(&configuration.backend.value.to_string());
        self.line("backend", backend, configuration.backend.source);
        self.file(
            "socket",
            &configuration.socket.value,
            configuration.socket.source,
        );
        match &configuration.socket_group.value {
            Some(group) => self.line(
                "socket_group",
                quote(group),
                configuration.socket_group.source,
            ),
            None => self
                .text
                .push_str("# socket_group is that of the process\n"),
        }
        let changes = quote(configuration.changes.value.name());
        self.line("changes", changes, configuration.changes.source);
        match configuration.http.value {
            Some(address) => self.line(
                "http",
                quote(&address.to_string()),
                configuration.http.source,
            ),
            None => self.text.push_str("# http is off\n"),
        }
        match &configuration.state.value {
            Some(file) => self.file("state", file, configuration.state.source),
            None => self
                .text
                .push_str("# state is in the StateDirectory of systemd, if there is one\n"),
        }
    }

    /// The sections of discovery and actions.
    fn actions(&mut self) {
        let configuration = self.configuration;
        if let Some(discovery) = &configuration.file.discovery {
            self.title("[discovery]");
            for (key, value, source) in discovery.show() {
                self.line(key, value, source);
            }
        }
        if let Some(multipath) = &configuration.file.multipath {
            let [fail_paths, last_too] = multipath.sources;
            self.title("[multipath]");
            self.line("fail_paths", multipath.fail_paths, fail_paths);
            self.line("last_path_too", multipath.last_too, last_too);
        }
        for hook in &configuration.file.hooks {
            self.title("[[hook]]");
            for (key, value, source) in hook.show() {
                self.line(key, value, source);
            }
        }
    }

    /// The sections of groups and paths.
    fn sections(&mut self) {
        let configuration = self.configuration;
        for group in &configuration.file.groups {
            self.title("[[group]]");
            self.subject(&group.subject, group.line);
            self.section(&group.watch);
        }
        for path in &configuration.file.sections {
            self.title("[[path]]");
            self.subject(&path.subject, path.line);
            if let Some(group) = &path.group {
                self.line("group", quote(&group.value), group.source);
            }
            self.section(&path.watch);
        }
    }
}

impl Configuration {
    /// The configuration as a file with the same meaning, with remarks.
    pub(crate) fn show(&self) -> String {
        let mut writer = ConfigWriter {
            text: String::new(),
            configuration: self,
        };
        writer.paths();
        writer.daemon();
        writer.title("[defaults]");
        writer.layer(&self.defaults);
        writer.actions();
        writer.sections();
        writer.text
    }

    fn place(&self, source: Source) -> String {
        match (source, &self.origin) {
            (Source::Line(line), Some(file)) => format!("{}:{line}", display_name(file)),
            (Source::Line(line), None) => format!("line {line}"),
            (Source::Default, _) => "default".to_owned(),
            (Source::CommandLine, _) => "command line".to_owned(),
            (Source::Environment(name), _) => format!("environment ({name})"),
        }
    }
}

const NO_TEXT: &str = "which is not UTF-8: only the command line can name it";

/// The name of a path as it can be written in a file.
///
/// # Errors
/// Why a file can't name it.
fn in_file(path: &Path) -> Result<&str, String> {
    let name = path.to_str().ok_or(NO_TEXT)?;
    match literal(name, GLOB_IN_PATHS) {
        Ok(_) => Ok(name),
        Err(_) => Err("would be a pattern in a file: only the command line can name it".to_owned()),
    }
}

/// A TOML string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
