//! `pathpulse config`: validates a configuration file, or shows the effective configuration.

use std::path::PathBuf;

use super::run::DaemonOptions;
use super::{FAILED, Failure, output};
use crate::daemon::config::{CommandLine, Configuration};

/// Validates a configuration file, or shows the effective configuration
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 valid, 1 the file has errors, 3 wrong usage.\n\n\
    Examples:\n  pathpulse config check /etc/pathpulse.toml\n  \
    pathpulse config show --config /etc/pathpulse.toml --interval 1s"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Validates a file, and shows line, column and cause of each error
    #[command(after_help = "Example:\n  pathpulse config check /etc/pathpulse.toml")]
    Check {
        /// Configuration file
        file: PathBuf,
    },
    /// Shows the configuration of `pathpulse run` with the same options, and the source of each
    /// value
    #[command(
        after_help = "Example:\n  pathpulse config show --config /etc/pathpulse.toml --interval 1s"
    )]
    Show(Box<DaemonOptions>),
}

pub(crate) fn run(args: Args) -> Result<i32, Failure> {
    let loaded = match args.command {
        ConfigCommand::Check { file } => {
            let line = CommandLine {
                file: Some(file),
                ..CommandLine::default()
            };
            Configuration::load(&line).map(|_| String::new())
        }
        ConfigCommand::Show(options) => {
            Configuration::load(&(*options).into()).map(|configuration| configuration.show())
        }
    };
    match loaded {
        Ok(text) => {
            output::print(&text);
            Ok(0)
        }
        Err(error) => {
            for line in error.lines() {
                output::print_error(&line);
            }
            Ok(FAILED)
        }
    }
}
