//! The sections of a configuration file, as they are written.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pathpulse::Choice;
use toml::de::DeTable;

use super::actions::{Hook, Multipath};
use super::discovery::Discovery;
use super::pattern::Pattern;
use super::problem::{Problem, ProblemReport};
use super::reader::{Section, integer, text};
use super::source::Sourced;
use super::values::{ChangeRights, http_address};
use super::watch::Layer;

/// The content of a file; empty without a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(super) workers: Option<Sourced<usize>>,
    pub(super) backend: Option<Sourced<Choice>>,
    pub(super) socket: Option<Sourced<PathBuf>>,
    pub(super) socket_group: Option<Sourced<Option<String>>>,
    pub(super) changes: Option<Sourced<ChangeRights>>,
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

/// What a section applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// One path or group, by name.
    Name(String),
    /// All paths or groups with a matching name.
    Match(Pattern),
}

impl Subject {
    /// Compares bytes: a name of a path need not be UTF-8.
    fn is(&self, name: impl AsRef<Path>) -> bool {
        match self {
            Subject::Name(known) => known.as_bytes() == name.as_ref().as_os_str().as_bytes(),
            Subject::Match(pattern) => pattern.matches(name),
        }
    }
}

/// A `[[path]]`.
#[derive(Clone, Debug)]
pub(super) struct PathSection {
    pub(super) subject: Subject,
    pub(super) line: usize,
    pub(super) group: Option<Sourced<String>>,
    pub(super) watch: Layer,
}

impl PathSection {
    /// The path that the section adds to the watchlist, if it has a name.
    pub(super) fn named(&self) -> Option<&Path> {
        match &self.subject {
            Subject::Name(name) => Some(Path::new(name)),
            Subject::Match(_) => None,
        }
    }
}

/// A `[[group]]`.
#[derive(Clone, Debug)]
pub(super) struct GroupSection {
    pub(super) subject: Subject,
    pub(super) line: usize,
    pub(super) watch: Layer,
}

impl File {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// All problems, at least one.
    pub(crate) fn parse(source: &str) -> Result<File, Vec<Problem>> {
        let report = ProblemReport::new(source);
        let (table, errors) = DeTable::parse_recoverable(source);
        for error in &errors {
            let what = error.message().replace('\n', "; ");
            report.add(&error.span().unwrap_or(0..0), what);
        }
        if !errors.is_empty() {
            // Values that could not be parsed would be reported as missing or unknown, too.
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
        self.changes = section.take("changes", |value| text(value).and_then(ChangeRights::read));
        self.http = section.take("http", |value| text(value).and_then(http_address).map(Some));
        self.state = section.take("state", |value| text(value).and_then(absolute).map(Some));
        section.finish();
    }

    fn read_paths(&mut self, sections: Vec<Section<'_, '_>>) {
        let mut named: HashMap<String, usize> = HashMap::new();
        for mut section in sections {
            let subject = subject(&mut section, Pattern::of_paths, |name| {
                literal(name, GLOB_AS_NAME).map(drop)
            });
            let group = section.take("group", group_name);
            let watch = Layer::of_section(&mut section);
            if let Some(Subject::Name(name)) = &subject
                && let Some(line) = named.insert(name.clone(), section.line())
            {
                section.add_problem(&format!(
                    "duplicate section: `{name}` has one in line {line}"
                ));
            }
            let line = section.line();
            if let Some(subject) = subject {
                self.sections.push(PathSection {
                    subject,
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
            let subject = subject(&mut section, Pattern::new, |_| Ok(()));
            let watch = Layer::of_section(&mut section);
            if let Some(subject) = subject {
                let line = section.line();
                self.groups.push(GroupSection {
                    subject,
                    line,
                    watch,
                });
            }
            section.finish();
        }
    }

    /// The sections that apply to a path; those with its name come last.
    pub(super) fn of_path(&self, name: &Path) -> impl Iterator<Item = &PathSection> {
        if self.sections.is_empty() {
            // The usual case, and a reload asks for each path.
            return Vec::new().into_iter();
        }
        let about = |section: &&PathSection| section.subject.is(name);
        let mut found: Vec<&PathSection> = self.sections.iter().filter(about).collect();
        found.sort_by_key(|section| section.named().is_some());
        found.into_iter()
    }

    /// The sections that apply to a group; those with its name come last.
    pub(super) fn of_group(&self, name: Option<&str>) -> impl Iterator<Item = &GroupSection> {
        let about = |section: &&GroupSection| name.is_some_and(|name| section.subject.is(name));
        let mut found: Vec<&GroupSection> = self.groups.iter().filter(about).collect();
        found.sort_by_key(|section| matches!(section.subject, Subject::Name(_)));
        found.into_iter()
    }
}

/// Reads what a section applies to: its `name` or its `match`.
fn subject(
    section: &mut Section<'_, '_>,
    pattern: fn(&str) -> Result<Pattern, String>,
    name: fn(&str) -> Result<(), String>,
) -> Option<Subject> {
    let named = section.take("name", |value| {
        let text = text(value)?;
        name(text).map(|()| Subject::Name(text.to_owned()))
    });
    let matched = section.take("match", |value| {
        text(value).and_then(pattern).map(Subject::Match)
    });
    match (named, matched) {
        (Some(one), None) | (None, Some(one)) => Some(one.value),
        (Some(_), Some(_)) => {
            section.add_problem("has both `name` and `match`: remove one of them");
            None
        }
        // An invalid value is reported already.
        (None, None) if section.has("name") || section.has("match") => None,
        (None, None) => {
            section.add_problem("missing key: add name = \"...\" or match = \"...*\"");
            None
        }
    }
}

fn group_name(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    match text(value)? {
        "" => Err("the name of a group must not be empty".to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// The hint for a name with wildcards.
pub(super) const GLOB_IN_PATHS: &str = "use include = [\"...\"] in [discovery]";
const GLOB_AS_NAME: &str = "use match = \"...\"";

/// Parses the name of a path and rejects patterns. Names of files may contain brackets; names of
/// devices have none.
pub(super) fn literal(name: &str, instead: &str) -> Result<PathBuf, String> {
    let device = || format!(": did you mean `/dev/{}`?", name.escape_debug());
    let path = absolute(name).map_err(|why| why + &device())?;
    let is_pattern = name.contains(['*', '?']);
    if is_pattern || (name.starts_with("/dev/") && name.contains(['[', '{'])) {
        let name = name.escape_debug();
        let hint = instead.replace("...", &name.to_string());
        return Err(format!(
            "`{name}` has wildcards, which are not expanded here; {hint}"
        ));
    }
    Ok(path)
}

/// Parses a name that does not depend on the working directory.
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
