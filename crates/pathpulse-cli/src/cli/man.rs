//! `pathpulse man`: a manual page for each command, made from what `--help` says.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Failure};

/// Writes manual pages, one for each command
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  pathpulse man /usr/local/share/man/man1 && man pathpulse-check"
)]
pub(crate) struct Args {
    /// Where to; it is made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    fs::create_dir_all(&args.folder).map_err(|error| cannot_write(&args.folder, &error))?;
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Names, usages and options that commands share are filled in by this.
    cli.build();
    write(&cli, &args.folder)?;
    Ok(0)
}

/// Writes the page of a command, and those of its commands.
fn write(command: &Command, folder: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    let man = Man::new(command.clone()).manual("pathpulse");
    man.render(&mut page)
        .and_then(|()| fs::write(&file, &page))
        .map_err(|error| cannot_write(&file, &error))?;
    let commands = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for command in commands {
        write(command, folder)?;
    }
    Ok(())
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "{}: {error}; name a folder that may be written to",
        file.display()
    ))
}
