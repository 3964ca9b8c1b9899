//! The command line: it is parsed here, and each command has a module of its own.
//!
//! A command returns its exit status, or a [`Failure`], which prints one line per problem on
//! stderr.

mod args;
mod bench;
mod check;
mod check_report;
mod client;
mod commands;
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
mod subprocess;
mod targets;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub(crate) use crate::daemon::FAILED;

/// Exit status of wrong usage, and of a `check` that could check nothing.
pub(crate) const USAGE: i32 = 3;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One line each, without the name of the program: what, where, what to do.
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

    /// Prints each problem on stderr, and returns the exit status.
    fn report(&self) -> i32 {
        for problem in &self.problems {
            output::print_error(problem);
        }
        self.status
    }
}

/// Checks the storage paths of this host: which of them answer, how fast, and since when
#[derive(Parser)]
#[command(
    name = "pathpulse",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  pathpulse check                     checks all disks once\n  \
                  pathpulse run /dev/sda /dev/sdb     runs the daemon on two disks\n  \
                  pathpulse status                    shows the state of its paths\n\n\
                  Durations are written like 500ms, 2s, 1m30s."
)]
struct Cli {
    /// When to use colours and styles
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    color: output::ColorWhen,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    Check(Box<check::Args>),
    Run(Box<run::Args>),
    Status(status::Args),
    Events(events::Args),
    Watch(watch::Args),
    Add(commands::AddArgs),
    Remove(commands::RemoveArgs),
    Pause(commands::PauseArgs),
    Resume(commands::ResumeArgs),
    CheckNow(commands::CheckNowArgs),
    Reload(commands::ReloadArgs),
    Stop(stop::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// The process of one contender of a benchmark (internal)
    #[command(hide = true)]
    BenchContender {
        name: String,
    },
    /// The process that writes the daemon's state file (internal)
    #[command(hide = true)]
    KeepEvents {
        file: PathBuf,
    },
    /// The process that reads the daemon's configuration (internal)
    #[command(hide = true)]
    ReadConfig {
        file: PathBuf,
    },
    /// The process that looks up a name (internal)
    #[command(hide = true)]
    LookUp {
        name: PathBuf,
    },
    /// A process that reads the daemon's devices (internal)
    #[command(hide = true)]
    Reader,
    /// The server processes of simulated disks (internal)
    #[command(hide = true)]
    RigServer {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Runs the command that the process was started with, and returns its exit status.
pub fn main() -> i32 {
    let (status, unwritten) = match Cli::try_parse() {
        Ok(cli) => {
            // A monitor that runs `check` must not take an unwritten result for a state of disks.
            let is_check = matches!(cli.command, CliCommand::Check(_));
            output::set_color(cli.color);
            (run(cli), if is_check { USAGE } else { FAILED })
        }
        Err(error) => (print_usage_error(&error), FAILED),
    };
    match output::write_failure() {
        Some(problem) => {
            output::print_error(problem);
            unwritten
        }
        None => status,
    }
}

fn run(cli: Cli) -> i32 {
    let result = match cli.command {
        CliCommand::Check(args) => check::run(&args),
        CliCommand::Run(args) => run::run(*args),
        CliCommand::Status(args) => status::run(&args),
        CliCommand::Events(args) => events::run(&args),
        CliCommand::Watch(args) => watch::run(&args),
        CliCommand::Add(args) => commands::add(args),
        CliCommand::Remove(args) => commands::run("remove", &args.watched),
        CliCommand::Pause(args) => commands::run("pause", &args.watched),
        CliCommand::Resume(args) => commands::run("resume", &args.watched),
        CliCommand::CheckNow(args) => commands::run("check-now", &args.watched),
        CliCommand::Reload(args) => commands::reload(&args),
        CliCommand::Stop(args) => stop::run(&args),
        CliCommand::Config(args) => config::run(args),
        CliCommand::Doctor(args) => doctor::run(&args),
        CliCommand::Demo(args) => demo::run(&args),
        CliCommand::Bench(args) => bench::run(&args),
        CliCommand::Completions(args) => completions::run(&args),
        CliCommand::Man(args) => man::run(&args),
        CliCommand::Reader => return pathpulse::run_reader(),
        CliCommand::BenchContender { name } => bench::contend(&name),
        CliCommand::KeepEvents { file } => {
            crate::daemon::keep_events(file);
            Ok(0)
        }
        CliCommand::LookUp { name } => {
            output::print(&crate::lookup::answer(&name));
            Ok(0)
        }
        CliCommand::ReadConfig { file } => {
            let read = crate::daemon::config::read(&file);
            let status = i32::from(read.is_err());
            output::print(&read.unwrap_or_else(|why| why));
            Ok(status)
        }
        CliCommand::RigServer { args } => {
            let served = pathpulse_faultdisk::serve_main(args);
            Ok(i32::from(served != ExitCode::SUCCESS))
        }
    };
    result.unwrap_or_else(|failure| failure.report())
}

/// Prints the help that was asked for, or else one line about what is wrong.
fn print_usage_error(error: &clap::Error) -> i32 {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&text.to_string());
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::print_error("no command given; `pathpulse --help` lists the commands");
            USAGE
        }
        _ => {
            output::print_error(&format!(
                "{}; see `{} --help`",
                one_line(&text.to_string()),
                command_name()
            ));
            USAGE
        }
    }
}

/// The message of clap, which has several lines, on one line and without the usage.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let message = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = message
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    parts.join(" ")
}

/// `pathpulse`, and the given command if there is such a command.
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
    fn clap_accepts_the_definition() {
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
    fn a_message_of_clap_becomes_one_line() {
        let missing =
            "error: the following were not provided:\n  <PATH>...\n\nUsage: pathpulse run\n";
        assert_eq!(
            one_line(missing),
            "the following were not provided: <PATH>..."
        );
    }
}
