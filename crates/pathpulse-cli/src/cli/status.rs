//! `pathpulse status`: the state of the paths that the daemon watches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pathpulse::display_name;

use super::args::{Format, FormatOption, SocketOption, WatchedPaths};
use super::client::Client;
use super::names::find;
use super::status_table::Width;
use super::{FAILED, Failure, output, status_table};
use crate::api::{HeldProcessDocument, PathDocument, PathState, StatusDocument};
use crate::human::message_lines;

/// Shows the state of the watched paths
///
/// A pending path has no verdict yet. Its cause is not_open if it could not be opened, and
/// device_gone if its disk has disappeared but is still in use. Remarks below the table give the
/// reason.
///
/// On a terminal, the table fits its width: less important columns are left out and long names are
/// shortened. With --wide, or when stdout is not a terminal, names are complete. --wide also shows
/// what each device is, where it is attached, and its other names on the watchlist.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 shown, 1 no daemon, or a PATH is not watched, 3 wrong usage.\n\
    With --exit-code: 0 all shown paths are up or in standby, 1 some are marginal, pending, paused \
    or overdue, or no path is shown, or a PATH is not watched, 2 some are down, 3 no answer from the daemon.\n\n\
    Examples:\n  pathpulse status\n  pathpulse status /dev/sda --format json\n  \
    pathpulse status --wide\n  pathpulse status --exit-code >/dev/null || echo some paths are not up"
)]
pub(crate) struct Args {
    #[command(flatten)]
    paths: WatchedPaths<false>,
    #[command(flatten)]
    socket: SocketOption,
    /// Show all columns, complete names, and details of each device
    #[arg(long)]
    wide: bool,
    /// Set the exit status by the states of the shown paths
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    output: FormatOption,
}

/// The exit status of `--exit-code` without an answer from the daemon.
const NO_ANSWER: i32 = 3;

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let status =
        Client::connect(args.socket.file()).and_then(|mut client| client.get("/v1/status"));
    let mut status: StatusDocument = status.map_err(|failure| match args.exit_code {
        true => Failure {
            status: NO_ANSWER,
            ..failure
        },
        false => failure,
    })?;
    let (shown, missing) = select(&status.paths, &args.paths.paths);
    for (path, why) in &missing {
        output::print_error(&format!("{}: {why}", display_name(path)));
    }
    let states = shown.iter().map(|index| status.paths[*index].shown_state());
    let code = match (args.exit_code, missing.is_empty()) {
        (true, _) => exit_code(states, missing.is_empty()),
        (false, true) => 0,
        (false, false) => FAILED,
    };
    match args.output.format {
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

/// 0 if all are up or in standby, as in `check`; 2 if one is down; else 1, also if there are none,
/// or some of the named paths are not watched.
fn exit_code<'a>(states: impl Iterator<Item = &'a PathState>, is_complete: bool) -> i32 {
    let states: Vec<&PathState> = states.collect();
    let is_good = |state: &&PathState| matches!(state, PathState::Up | PathState::Standby);
    let all_good = is_complete && !states.is_empty() && states.iter().all(is_good);
    match states.contains(&&PathState::Down) {
        true => 2,
        false => i32::from(!all_good),
    }
}

/// The indexes of the named paths, or of all if none is named; and the names that match no path,
/// each with the reason.
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
            Ok(indexes) => shown.extend(indexes),
            Err(why) => missing.push((name.as_path(), why)),
        }
    }
    (shown, missing)
}

/// Keeps the paths at these indexes only.
fn keep(paths: &mut Vec<PathDocument>, shown: &BTreeSet<usize>) {
    let mut index = 0..;
    paths.retain(|_| index.next().is_some_and(|index| shown.contains(&index)));
}

/// The table with its headline and remarks. Counts are of all paths, whichever are shown.
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
        .filter(|path| *path.shown_state() == PathState::Up);
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

/// One line for each earlier daemon whose process the kernel still holds.
fn held_processes(all: &[HeldProcessDocument]) -> String {
    let line = |held: &HeldProcessDocument| {
        let devices = match held.devices.as_slice() {
            [] => "a device answers".to_owned(),
            [device] => format!("{device} answers"),
            devices => format!("{} answer", devices.join(", ")),
        };
        format!(
            "pid {}: an earlier daemon, dead since {}; the kernel holds it until {devices}\n",
            held.pid, held.since
        )
    };
    all.iter().map(line).collect()
}

/// Why paths are not open: a line for each path, or for many paths with the same reason; wrapped on
/// a terminal.
fn remarks(paths: &[PathDocument]) -> String {
    let messages = paths
        .iter()
        .filter_map(|path| Some((&*path.path, path.message.as_deref()?)));
    let remarks = message_lines(messages).into_iter();
    let remarks = remarks.map(|line| output::printable(&line));
    let columns = output::columns_of_terminal();
    let lines = remarks.flat_map(|line| match columns {
        Some(columns) => output::wrap(&line, columns.into()),
        None => vec![line],
    });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::exit_code;
    use crate::api::PathState;

    #[test]
    fn the_worst_path_decides_the_exit_status() {
        let code = |states: &[&str], is_complete| {
            let states: Vec<PathState> = states.iter().map(|word| PathState::from(*word)).collect();
            exit_code(states.iter(), is_complete)
        };
        assert_eq!(code(&["up", "up"], true), 0);
        assert_eq!(code(&["up", "standby"], true), 0, "as in `check`");
        assert_eq!(code(&["up", "marginal"], true), 1);
        assert_eq!(code(&["overdue"], true), 1);
        assert_eq!(code(&["paused", "down"], true), 2);
        assert_eq!(code(&[], true), 1, "no path is known to be up");
        assert_eq!(code(&["up"], false), 1, "one is not watched");
        assert_eq!(code(&["down"], false), 2);
    }
}
