//! `pathpulse add`, `remove`, `pause`, `resume`, `check-now`, `reload`: commands to the daemon.

use std::path::Path;
use std::time::Duration;

use pathpulse::{display_name, parse_name};

use super::args::{NewPaths, SocketOption, WatchedPaths};
use super::client::Client;
use super::names::{find_one, name_of, resolve};
use super::{FAILED, Failure, output};
use crate::api::{AnswerDocument, Name, PathsDocument, ReloadDocument, StatusDocument};
use crate::human::message_lines;

/// The daemon answers within ten seconds, whatever devices and files do.
const LIMIT: Duration = Duration::from_secs(12);

/// Adds paths to the watchlist
///
/// The daemon tries again to open a path that does not open, and the answer says why it does not.
/// An added path stays on the watchlist until it is removed or the daemon ends.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all paths are watched or will be opened later, 1 some are not, 3 wrong usage.\n\n\
    Example:\n  pathpulse add /dev/sdc /dev/sdd --group database"
)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    paths: NewPaths<true>,
    /// Group of the paths: the storage that they lead to, if the kernel does not know it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    #[command(flatten)]
    socket: SocketOption,
}

/// The paths that a command is about, and the daemon that watches them.
#[derive(Debug, clap::Args)]
pub(crate) struct PathSelection {
    #[command(flatten)]
    paths: WatchedPaths<true>,
    #[command(flatten)]
    socket: SocketOption,
}

/// Removes paths from the watchlist
///
/// The daemon stops checking the paths and closes their devices. If a device has other names on the
/// watchlist, it stays watched by those.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all paths are removed, 1 some are not, 3 wrong usage.\n\n\
    Example:\n  pathpulse remove /dev/sdc"
)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(super) watched: PathSelection,
}

/// Pauses paths: they stay on the watchlist, but are not checked
///
/// The daemon closes the device of a paused path, so that it can be removed or replaced.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all paths are paused, 1 some are not, 3 wrong usage.\n\n\
    Example:\n  pathpulse pause /dev/sdc"
)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(super) watched: PathSelection,
}

/// Resumes paused paths
///
/// The daemon opens the device of each path again and checks it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all paths are resumed, 1 some are not, 3 wrong usage.\n\n\
    Example:\n  pathpulse resume /dev/sdc"
)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(super) watched: PathSelection,
}

/// Checks paths now instead of at their next regular time
///
/// The command does not wait for the result; `pathpulse status` shows it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all checks are scheduled, 1 some are not, 3 wrong usage.\n\n\
    Example:\n  pathpulse check-now /dev/sdc"
)]
pub(crate) struct CheckNowArgs {
    #[command(flatten)]
    pub(super) watched: PathSelection,
}

/// Reloads the configuration file of the daemon
///
/// The daemon applies the differences only: all other paths keep their state, history and timing.
/// If the name of a path leads to another device now, the daemon watches that device. If the file
/// has errors, nothing changes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the configuration is in force, 1 nothing has changed, 3 wrong usage.\n\n\
    Example:\n  pathpulse config check /etc/pathpulse.toml && pathpulse reload"
)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    socket: SocketOption,
}

pub(crate) fn add(args: AddArgs) -> Result<i32, Failure> {
    let names = args.paths.paths.iter().map(|name| Name(resolve(name)));
    let body = PathsDocument {
        paths: names.collect(),
        group: args.group,
    };
    let mut client = Client::connect(args.socket.file())?;
    let answers: Vec<AnswerDocument> = client.post("/v1/add", &body, LIMIT)?;
    Ok(report(&answers))
}

/// Sends a command about watched paths.
pub(crate) fn run(command: &str, args: &PathSelection) -> Result<i32, Failure> {
    let mut client = Client::connect(args.socket.file())?;
    let status: StatusDocument = client.get("/v1/status")?;
    let mut body = PathsDocument {
        paths: Vec::new(),
        group: None,
    };
    let mut worst = 0;
    for name in &args.paths.paths {
        let found = find_one(&status.paths, name).and_then(|path| {
            let name = name_of(path, name);
            parse_name(&name)
                .ok_or_else(|| format!("the daemon names it {name}, which is not a valid name"))
        });
        match found {
            Ok(path) => body.paths.push(Name(path)),
            Err(why) => {
                print_error(name, &why);
                worst = FAILED;
            }
        }
    }
    if !body.paths.is_empty() {
        let answers: Vec<AnswerDocument> = client.post(&format!("/v1/{command}"), &body, LIMIT)?;
        worst = worst.max(report(&answers));
    }
    Ok(worst)
}

pub(crate) fn reload(args: &ReloadArgs) -> Result<i32, Failure> {
    let mut client = Client::connect(args.socket.file())?;
    let done: ReloadDocument = client.post("/v1/reload", &(), LIMIT)?;
    output::print(&format!(
        "{} paths added, {} removed, {} changed, {} unchanged\n",
        done.added, done.removed, done.changed, done.unchanged
    ));
    for remark in &done.remarks {
        output::print_error(remark);
    }
    Ok(0)
}

/// Prints the daemon's remarks about paths; a remark about many paths is printed once.
fn report(answers: &[AnswerDocument]) -> i32 {
    let names = answers
        .iter()
        .map(|answer| display_name(&answer.path.0).to_string());
    let names: Vec<String> = names.collect();
    let remarks = names.iter().zip(answers);
    let remarks = remarks.filter_map(|(name, answer)| Some((&**name, answer.message.as_deref()?)));
    for line in message_lines(remarks) {
        output::print_error(&line);
    }
    let all = answers.iter().all(|answer| answer.done);
    if all { 0 } else { FAILED }
}

fn print_error(name: &Path, problem: &str) {
    output::print_error(&format!("{}: {problem}", display_name(name)));
}
