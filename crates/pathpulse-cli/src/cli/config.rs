//! `pathpulse config`: what a configuration file says, or why it says nothing.

use std::path::PathBuf;

use super::run::What;
use super::{FAILED, Failure, output};
use crate::daemon::config::{CommandLine, ConfigError, Configuration};

/// Checks a configuration file, or shows what is in force
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 good, 1 something is wrong with the file, 3 wrong usage.\n\n\
    Examples:\n  pathpulse config check /etc/pathpulse.toml\n  \
    pathpulse config show --config /etc/pathpulse.toml --interval 1s"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Says what is wrong with a file: line, column and cause
    #[command(after_help = "Example:\n  pathpulse config check /etc/pathpulse.toml")]
    Check {
        /// The file
        file: PathBuf,
    },
    /// Shows what `pathpulse run` would do with the same options, and where each value comes from
    #[command(
        after_help = "Example:\n  pathpulse config show --config /etc/pathpulse.toml --interval 1s"
    )]
    Show(Box<What>),
}

impl Args {
    pub(super) fn note_sources(&mut self, matches: &clap::ArgMatches) {
        if let (Command::Show(what), Some((_, matches))) = (&mut self.command, matches.subcommand())
        {
            what.note_sources(matches);
        }
    }
}

pub(crate) fn run(args: Args) -> Result<i32, Failure> {
    let loaded = match args.command {
        Command::Check { file } => {
            let line = CommandLine {
                file: Some(file),
                ..CommandLine::default()
            };
            Configuration::load(&line).map(|_| String::new())
        }
        Command::Show(what) => {
            Configuration::load(&(*what).into()).map(|configuration| configuration.show())
        }
    };
    match loaded {
        Ok(text) => {
            output::print(&text);
            Ok(0)
        }
        Err(error) => Ok(complain(&error)),
    }
}

/// One line for each problem.
fn complain(error: &ConfigError) -> i32 {
    for line in error.lines() {
        output::complain(&line);
    }
    FAILED
}
