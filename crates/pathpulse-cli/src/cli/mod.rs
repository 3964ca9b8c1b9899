//! The command line: what it takes, and which command gets it.
//!
//! A command returns its exit status, or a [`Failure`], which becomes a line on stderr for each problem.

mod apart;
mod args;
mod bench;
mod check;
mod check_report;
mod client;
mod command;
mod completions;
mod config;
mod demo;
mod demo_disks;
mod demo_screen;
mod doctor;
mod events;
mod man;
mod names;
mod output;
mod run;
mod status;
mod status_table;
mod stop;
mod targets;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use crate::daemon::FAILED;

/// The command line is wrong, or `check` had nothing to check.
pub(crate) const USAGE: i32 = 3;

/// Why a command failed: what, where, what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Each becomes one line, without the name of the program.
    problems: Vec<String>,
    /// The exit status.
    status: i32,
}

impl Failure {
    /// A failure with exit status 1.
    pub(crate) fn new(problem: impl Into<String>) -> Failure {
        Failure::of_all(vec![problem.into()])
    }

    /// A failure with exit status 1, for several reasons.
    pub(crate) fn of_all(problems: Vec<String>) -> Failure {
        Failure {
            problems,
            status: FAILED,
        }
    }

    /// A failure with the exit status of wrong usage.
    pub(crate) fn usage(problem: impl Into<String>) -> Failure {
        Failure {
            status: USAGE,
            ..Failure::new(problem)
        }
    }

    /// All problems in one line.
    pub(crate) fn message(&self) -> String {
        self.problems.join("; ")
    }

    /// Says each problem on stderr, and returns the exit status.
    fn complain(&self) -> i32 {
        for problem in &self.problems {
            output::complain(problem);
        }
        self.status
    }
}

/// Knows which storage paths of this host answer, how fast, and since when.
#[derive(Parser)]
#[command(
    name = "pathpulse",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  pathpulse check                     checks all block devices once\n  \
                  pathpulse run /dev/sda /dev/sdb     watches two\n  \
                  pathpulse status                    shows how they are\n\n\
                  Durations are like 500ms, 2s, 1m30s."
)]
struct Cli {
    /// When to use colours and styles: auto is on a terminal, unless TERM is dumb or NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    color: output::When,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(Box<check::Args>),
    Run(Box<run::Args>),
    Status(status::Args),
    Events(events::Args),
    Watch(watch::Args),
    Add(command::AddArgs),
    /// Watches paths no longer
    Remove(command::Args),
    /// Stops checking paths; they stay on the list
    Pause(command::Args),
    /// Checks paused paths again
    Resume(command::Args),
    /// Checks paths now instead of when they are due
    CheckNow(command::Args),
    Reload(command::ReloadArgs),
    Stop(stop::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// The process of one contender of a benchmark; not for people
    #[command(hide = true)]
    BenchContender {
        name: String,
    },
    /// The process that has the daemon's state file; not for people
    #[command(hide = true)]
    KeepEvents {
        file: PathBuf,
    },
    /// The process that reads the daemon's configuration; not for people
    #[command(hide = true)]
    ReadConfig {
        file: PathBuf,
    },
    /// The process that looks a name up; not for people
    #[command(hide = true)]
    LookUp {
        name: PathBuf,
    },
    /// The other processes of simulated disks; not for people
    #[command(hide = true)]
    RigServer {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Runs the command that the process was started with, and returns its exit status.
pub fn main() -> i32 {
    let (status, unwritten) = match parse() {
        Ok(cli) => {
            // To what asks whether disks are well, nothing that can be read is no answer.
            let is_check = matches!(cli.command, Command::Check(_));
            output::set_color(cli.color);
            (run(cli), if is_check { USAGE } else { FAILED })
        }
        Err(error) => (refuse(&error), FAILED),
    };
    match output::write_failure() {
        Some(problem) => {
            output::complain(problem);
            unwritten
        }
        None => status,
    }
}

fn run(cli: Cli) -> i32 {
    let result = match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Run(args) => run::run(*args),
        Command::Status(args) => status::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Add(args) => command::add(args),
        Command::Remove(args) => command::act("remove", &args),
        Command::Pause(args) => command::act("pause", &args),
        Command::Resume(args) => command::act("resume", &args),
        Command::CheckNow(args) => command::act("check-now", &args),
        Command::Reload(args) => command::reload(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Config(args) => config::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::BenchContender { name } => bench::contend(&name),
        Command::KeepEvents { file } => {
            crate::daemon::keep_events(file);
            Ok(0)
        }
        Command::LookUp { name } => {
            output::print(&crate::lookup::answer(&name));
            Ok(0)
        }
        Command::ReadConfig { file } => {
            let read = crate::daemon::config::read(&file);
            let status = i32::from(read.is_err());
            output::print(&read.unwrap_or_else(|why| why));
            Ok(status)
        }
        Command::RigServer { args } => {
            let served = pathpulse_faultdisk::serve_main(args);
            Ok(i32::from(served != ExitCode::SUCCESS))
        }
    };
    result.unwrap_or_else(|failure| failure.complain())
}

/// Reads the command line, and where the values come from that `config show` shows.
fn parse() -> Result<Cli, clap::Error> {
    let matches = <Cli as CommandFactory>::command().try_get_matches()?;
    let mut cli = <Cli as FromArgMatches>::from_arg_matches(&matches)
        .map_err(|error| error.format(&mut <Cli as CommandFactory>::command()))?;
    match (&mut cli.command, matches.subcommand()) {
        (Command::Run(args), Some((_, matches))) => args.note_sources(matches),
        (Command::Config(args), Some((_, matches))) => args.note_sources(matches),
        _ => {}
    }
    Ok(cli)
}

/// Prints help where help was asked for, else one line that says what is wrong.
fn refuse(error: &clap::Error) -> i32 {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&text.to_string());
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::complain("no command; `pathpulse --help` lists them");
            USAGE
        }
        _ => {
            output::complain(&format!(
                "{}; see `{} --help`",
                one_line(&text.to_string()),
                command_name()
            ));
            USAGE
        }
    }
}

/// What clap says on many lines, up to its usage, on one.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let said = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = said
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    parts.join(" ")
}

/// `pathpulse`, with the command that was given if it was one.
fn command_name() -> String {
    let given = std::env::args_os().nth(1).unwrap_or_default();
    let known = |name: &OsString| {
        let cli = <Cli as clap::CommandFactory>::command();
        cli.get_subcommands()
            .any(|command| name == command.get_name())
    };
    if known(&given) {
        format!("pathpulse {}", given.display())
    } else {
        "pathpulse".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn assert_shown(command: &clap::Command) {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            assert!(after.contains("Example"), "{name} --help has no example");
            assert!(after.contains("pathpulse"), "{name}: {after}");
            let commands = command.get_subcommands();
            commands.filter(|c| !c.is_hide_set()).for_each(assert_shown);
        }
        assert_shown(&<Cli as clap::CommandFactory>::command());
    }

    #[test]
    fn clap_is_quoted_on_one_line() {
        let missing =
            "error: the following were not provided:\n  <PATH>...\n\nUsage: pathpulse run\n";
        assert_eq!(
            one_line(missing),
            "the following were not provided: <PATH>..."
        );
    }
}
