//! `pathpulse status`: how the daemon's paths are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pathpulse::display_name;

use super::args::{Format, Socket};
use super::client::Client;
use super::names::find;
use super::status_table::Width;
use super::{FAILED, Failure, output, status_table};
use crate::daemon::{HeldProcessDocument, PathDocument, StatusDocument};
use crate::human::message_lines;

/// Shows how the paths are that the daemon watches
///
/// A path that is pending and not_open could not be opened yet, or device_gone: its disk was found, is gone,
/// and something still uses it. Why is said below the table.
///
/// On a terminal the table is as wide as that: columns and parts of names are left out. Elsewhere, and
/// with --wide, names are whole. With --wide it shows besides what each device is, where it is attached, and its
/// other names on the list.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 shown, 1 no daemon, or a path that it does not watch, 3 wrong usage.\n\
    With --exit-code: 0 all paths are up, 1 some are not, or there are none, 2 some are down, 3 no answer.\n\n\
    Examples:\n  pathpulse status\n  pathpulse status --exit-code >/dev/null || echo look at it\n  pathpulse status /dev/sda --format json\n  pathpulse status --wide"
)]
pub(crate) struct Args {
    /// Only these
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    socket: Socket,
    /// All columns, what each device is, and whole names, however wide the terminal is
    #[arg(long)]
    wide: bool,
    /// Tell by the exit status how the paths are that are shown
    #[arg(long)]
    exit_code: bool,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// The exit status of `--exit-code` when nobody tells how the paths are.
const NO_ANSWER: i32 = 3;

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let status = Client::connect(&args.socket.file).and_then(|mut client| client.get("/v1/status"));
    let mut status: StatusDocument = status.map_err(|failure| match args.exit_code {
        true => Failure {
            status: NO_ANSWER,
            ..failure
        },
        false => failure,
    })?;
    let (shown, missing) = select(&status.paths, &args.paths);
    for (path, why) in &missing {
        output::complain(&format!("{}: {why}", display_name(path)));
    }
    let states = shown.iter().map(|place| status.paths[*place].shown_state());
    let code = match (args.exit_code, missing.is_empty()) {
        (true, _) => exit_code(states, missing.is_empty()),
        (false, true) => 0,
        (false, false) => FAILED,
    };
    match args.format {
        Format::Json => {
            keep(&mut status.paths, &shown);
            output::print_json(&status)
        }
        Format::Table => {
            let width = match (args.wide, output::columns_of_terminal()) {
                (true, _) => Width::Wide,
                (false, Some(columns)) => Width::Columns(columns),
                (false, None) => Width::Whole,
            };
            output::print(&text(&mut status, &shown, width))
        }
    };
    Ok(code)
}

/// 0 if all are up, 2 if one is down, else 1: also if there are none, or some are not watched.
fn exit_code<'a>(states: impl Iterator<Item = &'a str>, is_complete: bool) -> i32 {
    let states: Vec<&str> = states.collect();
    let all_up = is_complete && !states.is_empty() && states.iter().all(|state| *state == "up");
    match states.contains(&"down") {
        true => 2,
        false => i32::from(!all_up),
    }
}

/// The places of the paths that were named, of all if none was, and the names that none has, each with
/// what is wrong.
fn select<'a>(
    paths: &[PathDocument],
    names: &'a [PathBuf],
) -> (BTreeSet<usize>, Vec<(&'a Path, String)>) {
    if names.is_empty() {
        return ((0..paths.len()).collect(), Vec::new());
    }
    let mut missing = Vec::new();
    let mut shown = BTreeSet::new();
    for name in names {
        match find(paths, name) {
            Ok(places) => shown.extend(places),
            Err(why) => missing.push((name.as_path(), why)),
        }
    }
    (shown, missing)
}

/// Leaves the paths at these places.
fn keep(paths: &mut Vec<PathDocument>, shown: &BTreeSet<usize>) {
    let mut place = 0..;
    paths.retain(|_| place.next().is_some_and(|place| shown.contains(&place)));
}

/// For people. What is counted is counted over all paths, whichever are shown.
fn text(status: &mut StatusDocument, shown: &BTreeSet<usize>, width: Width) -> String {
    let head = headline(status, shown.len());
    let table = status_table::text(&status.paths, shown, width);
    keep(&mut status.paths, shown);
    head + &table + &remarks(&status.paths) + &held_processes(&status.held_processes)
}

fn headline(status: &StatusDocument, shown: usize) -> String {
    let all = status.paths.len();
    let up = status
        .paths
        .iter()
        .filter(|path| path.shown_state() == "up");
    let only = match shown {
        shown if shown == all => String::new(),
        shown => format!(", {shown} shown"),
    };
    format!(
        "{} of {all} paths up{only}. {}, {} worker(s), running for {}\n",
        up.count(),
        status.backend,
        status.workers,
        output::age(status.uptime_s as u64)
    )
}

/// What the kernel holds of the daemon's predecessors: a line for each.
fn held_processes(all: &[HeldProcessDocument]) -> String {
    let line = |held: &HeldProcessDocument| {
        let devices = match held.devices.as_slice() {
            [] => "a device answers".to_owned(),
            devices => format!("{} answers", devices.join(", ")),
        };
        format!(
            "pid {}: a daemon that is dead since {}; the kernel holds it until {devices}\n",
            held.pid, held.since
        )
    };
    all.iter().map(line).collect()
}

/// Why paths are not open: a line for each, or for many of the same, which a terminal has in as many as it needs.
fn remarks(paths: &[PathDocument]) -> String {
    let messages = paths
        .iter()
        .filter_map(|path| Some((&*path.path, path.message.as_deref()?)));
    let said = message_lines(messages).into_iter();
    let said = said.map(|line| output::printable(&line));
    let columns = output::columns_of_terminal();
    let lines = said.flat_map(|line| match columns {
        Some(columns) => output::wrap(&line, columns.into()),
        None => vec![line],
    });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::exit_code;

    #[test]
    fn the_worst_path_decides_the_exit_status() {
        let code = |states: &[&str], is_complete| exit_code(states.iter().copied(), is_complete);
        assert_eq!(code(&["up", "up"], true), 0);
        assert_eq!(code(&["up", "marginal"], true), 1);
        assert_eq!(code(&["overdue"], true), 1);
        assert_eq!(code(&["paused", "down"], true), 2);
        assert_eq!(code(&[], true), 1, "nothing is known to be up");
        assert_eq!(code(&["up"], false), 1, "one is not watched");
        assert_eq!(code(&["down"], false), 2);
    }
}
