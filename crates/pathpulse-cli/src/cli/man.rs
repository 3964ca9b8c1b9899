//! `pathpulse man`: a manual page for each command, made of the texts of `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Failure};

/// Writes a manual page for each command
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  pathpulse man /usr/local/share/man/man1 && man pathpulse-check"
)]
pub(crate) struct Args {
    /// Directory of the pages; it is created if it does not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    fs::create_dir_all(&args.directory).map_err(|error| cannot_write(&args.directory, &error))?;
    let mut cli = Cli::command().disable_help_subcommand(true);
    // This adds names, usages and global options to the subcommands.
    cli.build();
    write(&cli, &args.directory)?;
    Ok(0)
}

/// Writes the page of a command, and those of its subcommands.
fn write(command: &Command, directory: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = directory.join(format!("{name}.1"));
    let mut page = Vec::new();
    let man = Man::new(command.clone()).manual("pathpulse");
    man.render(&mut page)
        .and_then(|()| fs::write(&file, &page))
        .map_err(|error| cannot_write(&file, &error))?;
    let commands = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for command in commands {
        write(command, directory)?;
    }
    Ok(())
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "{}: {error}; name a writable directory",
        file.display()
    ))
}
