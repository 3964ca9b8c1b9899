//! What a configuration file says, section by section.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pathpulse::Choice;
use toml::de::DeTable;

use super::actions::{Hook, Multipath};
use super::discovery::Discovery;
use super::pattern::Pattern;
use super::reader::{Problem, Report, Section, Sourced, integer, text};
use super::values::{Changes, http_address};
use super::watch::Layer;

/// What a file says; empty without one.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(super) workers: Option<Sourced<usize>>,
    pub(super) backend: Option<Sourced<Choice>>,
    pub(super) socket: Option<Sourced<PathBuf>>,
    pub(super) socket_group: Option<Sourced<Option<String>>>,
    pub(super) changes: Option<Sourced<Changes>>,
    pub(super) http: Option<Sourced<Option<SocketAddr>>>,
    pub(super) state: Option<Sourced<Option<PathBuf>>>,
    pub(super) paths: Vec<Sourced<PathBuf>>,
    pub(super) discovery: Option<Discovery>,
    pub(super) hooks: Vec<Hook>,
    pub(super) multipath: Option<Multipath>,
    pub(super) defaults: Layer,
    pub(super) sections: Vec<PathSection>,
    pub(super) groups: Vec<GroupSection>,
}

/// What a section is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// One, by its name.
    Name(String),
    /// All whose names match.
    Match(Pattern),
}

impl Who {
    /// Names of paths are compared as bytes: they need be no text.
    fn is(&self, name: impl AsRef<Path>) -> bool {
        match self {
            Who::Name(known) => known.as_bytes() == name.as_ref().as_os_str().as_bytes(),
            Who::Match(pattern) => pattern.matches(name),
        }
    }
}

/// A `[[path]]`.
#[derive(Clone, Debug)]
pub(super) struct PathSection {
    pub(super) who: Who,
    pub(super) line: usize,
    pub(super) group: Option<Sourced<String>>,
    pub(super) watch: Layer,
}

impl PathSection {
    /// The path that it has watched, if it names one.
    pub(super) fn named(&self) -> Option<&Path> {
        match &self.who {
            Who::Name(name) => Some(Path::new(name)),
            Who::Match(_) => None,
        }
    }
}

/// A `[[group]]`.
#[derive(Clone, Debug)]
pub(super) struct GroupSection {
    pub(super) who: Who,
    pub(super) line: usize,
    pub(super) watch: Layer,
}

impl File {
    /// Reads a file's text.
    ///
    /// # Errors
    /// All that is wrong with it, at least one.
    pub(crate) fn parse(source: &str) -> Result<File, Vec<Problem>> {
        let report = Report::new(source);
        let (table, errors) = DeTable::parse_recoverable(source);
        for error in &errors {
            let what = error.message().replace('\n', "; ");
            report.add(&error.span().unwrap_or(0..0), what);
        }
        if !errors.is_empty() {
            // What could not be understood would be called missing or unknown.
            return Err(report.finish());
        }
        let mut file = File::default();
        let mut whole = Section::whole(&table, &report);
        if let Some(paths) = whole.list("paths", |name| literal(name, GLOB_IN_PATHS)) {
            file.paths = paths;
        }
        if let Some(section) = whole.section("daemon") {
            file.read_daemon(section);
        }
        if let Some(mut section) = whole.section("defaults") {
            file.defaults = Layer::of_section(&mut section);
            section.finish();
        }
        file.discovery = whole.section("discovery").map(Discovery::read);
        let hooks = whole.sections("hook").into_iter();
        file.hooks = hooks.filter_map(Hook::read).collect();
        file.multipath = whole.section("multipath").map(Multipath::read);
        file.read_paths(whole.sections("path"));
        file.read_groups(whole.sections("group"));
        whole.finish();
        let problems = report.finish();
        if problems.is_empty() {
            Ok(file)
        } else {
            Err(problems)
        }
    }

    fn read_daemon(&mut self, mut section: Section<'_, '_>) {
        self.workers = section.take("workers", |value| {
            integer(value, &(1..257)).map(|workers| workers as usize)
        });
        self.backend = section.take("backend", |value| text(value)?.parse());
        self.socket = section.take("socket", |value| text(value).and_then(absolute));
        self.socket_group = section.take("socket_group", |value| {
            text(value).map(|t| Some(t.to_owned()))
        });
        self.changes = section.take("changes", |value| text(value).and_then(Changes::read));
        self.http = section.take("http", |value| text(value).and_then(http_address).map(Some));
        self.state = section.take("state", |value| text(value).and_then(absolute).map(Some));
        section.finish();
    }

    fn read_paths(&mut self, sections: Vec<Section<'_, '_>>) {
        let mut named: HashMap<String, usize> = HashMap::new();
        for mut section in sections {
            let who = who(&mut section, Pattern::of_paths, |name| {
                literal(name, GLOB_AS_NAME).map(drop)
            });
            let group = section.take("group", group_name);
            let watch = Layer::of_section(&mut section);
            if let Some(Who::Name(name)) = &who
                && let Some(line) = named.insert(name.clone(), section.line())
            {
                section.complain(&format!("`{name}` has a section already, in line {line}"));
            }
            let line = section.line();
            if let Some(who) = who {
                self.sections.push(PathSection {
                    who,
                    line,
                    group,
                    watch,
                });
            }
            section.finish();
        }
    }

    fn read_groups(&mut self, sections: Vec<Section<'_, '_>>) {
        for mut section in sections {
            let who = who(&mut section, Pattern::new, |_| Ok(()));
            let watch = Layer::of_section(&mut section);
            if let Some(who) = who {
                let line = section.line();
                self.groups.push(GroupSection { who, line, watch });
            }
            section.finish();
        }
    }

    /// What is said of this path, the particular last.
    pub(super) fn of_path(&self, name: &Path) -> impl Iterator<Item = &PathSection> {
        if self.sections.is_empty() {
            // As mostly, and asked of each path at every reload.
            return Vec::new().into_iter();
        }
        let about = |section: &&PathSection| section.who.is(name);
        let mut found: Vec<&PathSection> = self.sections.iter().filter(about).collect();
        found.sort_by_key(|section| section.named().is_some());
        found.into_iter()
    }

    /// What is said of this group, the particular last.
    pub(super) fn of_group(&self, name: Option<&str>) -> impl Iterator<Item = &GroupSection> {
        let about = |section: &&GroupSection| name.is_some_and(|name| section.who.is(name));
        let mut found: Vec<&GroupSection> = self.groups.iter().filter(about).collect();
        found.sort_by_key(|section| matches!(section.who, Who::Name(_)));
        found.into_iter()
    }
}

/// What a section is about: its `name` or its `match`.
fn who(
    section: &mut Section<'_, '_>,
    pattern: fn(&str) -> Result<Pattern, String>,
    name: fn(&str) -> Result<(), String>,
) -> Option<Who> {
    let named = section.take("name", |value| {
        let text = text(value)?;
        name(text).map(|()| Who::Name(text.to_owned()))
    });
    let matched = section.take("match", |value| {
        text(value).and_then(pattern).map(Who::Match)
    });
    match (named, matched) {
        (Some(one), None) | (None, Some(one)) => Some(one.value),
        (Some(_), Some(_)) => {
            section.complain("has a `name` and a `match`; one of them says what it is about");
            None
        }
        // A bad one was complained of already.
        (None, None) if section.has("name") || section.has("match") => None,
        (None, None) => {
            section.complain("say what it is about: name = \"...\" or match = \"...*\"");
            None
        }
    }
}

fn group_name(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    match text(value)? {
        "" => Err("a group has a name".to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// What to write instead of a name with wildcards.
pub(super) const GLOB_IN_PATHS: &str = "use include = [\"...\"] in [discovery]";
const GLOB_AS_NAME: &str = "use match = \"...\"";

/// Reads the name of a path that is no pattern. Files may have brackets in their names; devices have none.
pub(super) fn literal(name: &str, instead: &str) -> Result<PathBuf, String> {
    let device = || format!(": did you mean `/dev/{}`?", name.escape_debug());
    let path = absolute(name).map_err(|why| why + &device())?;
    let is_pattern = name.contains(['*', '?']);
    if is_pattern || (name.starts_with("/dev/") && name.contains(['[', '{'])) {
        let name = name.escape_debug();
        let hint = instead.replace("...", &name.to_string());
        return Err(format!(
            "`{name}` is no name: nothing is put for wildcards here; {hint}"
        ));
    }
    Ok(path)
}

/// Reads a name that means the same wherever the daemon runs.
pub(super) fn absolute(name: &str) -> Result<PathBuf, String> {
    if name.starts_with('/') && !name.contains('\0') {
        Ok(name.into())
    } else {
        Err(format!(
            "`{}` is not absolute; names begin with a slash",
            name.escape_debug()
        ))
    }
}
