//! The options of `pathpulse run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use pathpulse::Choice;

use super::source::Source;
use super::watch::Layer;

/// The options of the command line.
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
    /// Options that a variable of the environment gave, with the name of the variable.
    pub(crate) from_environment: Vec<(&'static str, &'static str)>,
}

impl CommandLine {
    /// Where an option was given.
    pub(super) fn source(&self, of: &str) -> Source {
        let mut variables = self.from_environment.iter();
        let variable = variables.find(|(given, _)| *given == of);
        variable.map_or(Source::CommandLine, |(_, variable)| {
            Source::Environment(variable)
        })
    }
}
