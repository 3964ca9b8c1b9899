//! The configuration as it is in force, each value with where it comes from.

use std::fmt::{Display, Write};
use std::path::Path;

use pathpulse::display_name;

use super::file::{GLOB_IN_PATHS, Who, literal};
use super::watch::Layer;
use super::{Configuration, Source};

/// Remarks stand here, unless the value is longer.
const COLUMN: usize = 40;

/// The text that is being made.
struct Page<'c> {
    text: String,
    configuration: &'c Configuration,
}

impl Page<'_> {
    fn title(&mut self, title: &str) {
        let _ = write!(self.text, "\n{title}\n");
    }

    fn line(&mut self, key: &str, value: impl Display, source: Source) {
        let said = format!("{key} = {value}");
        let place = self.configuration.place(source);
        let _ = writeln!(self.text, "{said:<COLUMN$} # {place}");
    }

    /// A file may be given by a name that means something in the working directory only.
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

    /// What a section says, as far as the command line does not say otherwise.
    fn section(&mut self, layer: &Layer) {
        let mut in_force = layer.clone();
        in_force.add(&self.configuration.command_line);
        for ((key, value, source), (_, _, given)) in in_force.show().zip(layer.show()) {
            if given != Source::Default {
                self.line(key, value, source);
            }
        }
    }

    fn who(&mut self, who: &Who, line: usize) {
        let (key, name) = match who {
            Who::Name(name) => ("name", name.as_str()),
            Who::Match(pattern) => ("match", pattern.text()),
        };
        self.line(key, quote(name), Source::Line(line));
    }
}

impl Configuration {
    /// As a file that says the same, with remarks.
    pub(crate) fn show(&self) -> String {
        let mut page = Page {
            text: String::new(),
            configuration: self,
        };
        page.text.push_str("paths = [\n");
        for (path, source) in self.named() {
            let place = self.place(source);
            match in_file(path) {
                Ok(name) => {
                    let name = quote(name) + ",";
                    let _ = writeln!(page.text, "    {name:<0$} # {place}", COLUMN - 4);
                }
                Err(why) => {
                    let name = display_name(path);
                    let _ = writeln!(page.text, "    # {name} {why}; {place}");
                }
            }
        }
        page.text.push_str("]\n");
        page.title("[daemon]");
        page.line("workers", self.workers.value, self.workers.source);
        let backend = quote(&self.backend.value.to_string());
        page.line("backend", backend, self.backend.source);
        page.file("socket", &self.socket.value, self.socket.source);
        match &self.socket_group.value {
            Some(group) => page.line("socket_group", quote(group), self.socket_group.source),
            None => page
                .text
                .push_str("# socket_group is that of the process\n"),
        }
        let changes = quote(self.changes.value.name());
        page.line("changes", changes, self.changes.source);
        match self.http.value {
            Some(address) => page.line("http", quote(&address.to_string()), self.http.source),
            None => page.text.push_str("# http is off\n"),
        }
        match &self.state.value {
            Some(file) => page.file("state", file, self.state.source),
            None => page
                .text
                .push_str("# state is in the StateDirectory of systemd, if there is one\n"),
        }
        page.title("[defaults]");
        page.layer(&self.usual);
        if let Some(discovery) = &self.file.discovery {
            page.title("[discovery]");
            for (key, value, source) in discovery.show() {
                page.line(key, value, source);
            }
        }
        if let Some(multipath) = &self.file.multipath {
            let [fail_paths, last_too] = multipath.sources;
            page.title("[multipath]");
            page.line("fail_paths", multipath.fail_paths, fail_paths);
            page.line("last_path_too", multipath.last_too, last_too);
        }
        for hook in &self.file.hooks {
            page.title("[[hook]]");
            for (key, value, source) in hook.show() {
                page.line(key, value, source);
            }
        }
        for group in &self.file.groups {
            page.title("[[group]]");
            page.who(&group.who, group.line);
            page.section(&group.watch);
        }
        for path in &self.file.sections {
            page.title("[[path]]");
            page.who(&path.who, path.line);
            if let Some(group) = &path.group {
                page.line("group", quote(&group.value), group.source);
            }
            page.section(&path.watch);
        }
        page.text
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

const NO_TEXT: &str = "which is no UTF-8: no file can say that, the command line can";

/// A name as a file can have it among its paths.
///
/// # Errors
/// Why no file can.
fn in_file(path: &Path) -> Result<&str, String> {
    let name = path.to_str().ok_or(NO_TEXT)?;
    match literal(name, GLOB_IN_PATHS) {
        Ok(_) => Ok(name),
        Err(_) => Err("is taken for a pattern in a file; the command line can name it".to_owned()),
    }
}

/// As a string of TOML.
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
