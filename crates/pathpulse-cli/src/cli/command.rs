//! `pathpulse add`, `remove`, `pause`, `resume`, `check-now`, `reload`: commands to the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::{display_name, parse_name};

use super::args::Socket;
use super::client::Client;
use super::names::{find_one, meant, name_of};
use super::{FAILED, Failure, output};
use crate::daemon::{AnswerDocument, Name, PathsDocument, ReloadDocument, StatusDocument};
use crate::human::message_lines;

/// The daemon answers within ten seconds, whatever devices and files do.
const LIMIT: Duration = Duration::from_secs(12);

/// Watches more paths
///
/// A path that does not open is waited for; the answer says why. It stays until it is removed, or
/// the daemon ends.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all are watched or waited for, 1 some are not, 3 wrong usage.\n\n\
    Example:\n  pathpulse add /dev/sdc /dev/sdd --group database"
)]
pub(crate) struct AddArgs {
    /// Block devices, or files that take O_DIRECT
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The storage that they lead to, if the kernel does not know it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    #[command(flatten)]
    socket: Socket,
}

/// Which paths a command is about.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done, 1 not for all, 3 wrong usage.\n\n\
    Example:\n  pathpulse pause /dev/sdc && pathpulse resume /dev/sdc")]
pub(crate) struct Args {
    /// As they are called in `pathpulse status`, or by another name of the device; a name that is watched is
    /// that path, wherever it leads by now
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    socket: Socket,
}

/// Has the daemon read its configuration file again
///
/// Only what is different is done: all other paths keep state, history and pace. A path whose name leads
/// to other storage by now is watched there. If anything is wrong with the file, nothing is done.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 done, 1 nothing was done, 3 wrong usage.\n\n\
    Example:\n  pathpulse config check /etc/pathpulse.toml && pathpulse reload"
)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    socket: Socket,
}

pub(crate) fn add(args: AddArgs) -> Result<i32, Failure> {
    let names = args.paths.iter().map(|name| Name(meant(name)));
    let order = PathsDocument {
        paths: names.collect(),
        group: args.group,
    };
    let mut client = Client::connect(&args.socket.file)?;
    let answers: Vec<AnswerDocument> = client.post("/v1/add", &order, LIMIT)?;
    Ok(report(&answers))
}

/// Tells the daemon to do this to some of its paths.
pub(crate) fn act(command: &str, args: &Args) -> Result<i32, Failure> {
    let mut client = Client::connect(&args.socket.file)?;
    let status: StatusDocument = client.get("/v1/status")?;
    let mut order = PathsDocument {
        paths: Vec::new(),
        group: None,
    };
    let mut worst = 0;
    for name in &args.paths {
        let found = find_one(&status.paths, name).and_then(|path| {
            let name = name_of(path, name);
            parse_name(&name).ok_or_else(|| format!("the daemon calls it {name}, which is no name"))
        });
        match found {
            Ok(path) => order.paths.push(Name(path)),
            Err(why) => {
                complain(name, &why);
                worst = FAILED;
            }
        }
    }
    if !order.paths.is_empty() {
        let answers: Vec<AnswerDocument> = client.post(&format!("/v1/{command}"), &order, LIMIT)?;
        worst = worst.max(report(&answers));
    }
    Ok(worst)
}

pub(crate) fn reload(args: &ReloadArgs) -> Result<i32, Failure> {
    let mut client = Client::connect(&args.socket.file)?;
    let done: ReloadDocument = client.post("/v1/reload", &(), LIMIT)?;
    output::print(&format!(
        "{} paths added, {} removed, {} changed, {} as before\n",
        done.added, done.removed, done.changed, done.unchanged
    ));
    for remark in &done.remarks {
        output::complain(remark);
    }
    Ok(0)
}

/// Says what there is to say of each path; the same of many once.
fn report(answers: &[AnswerDocument]) -> i32 {
    let names = answers
        .iter()
        .map(|answer| display_name(&answer.path.0).to_string());
    let names: Vec<String> = names.collect();
    let said = names.iter().zip(answers);
    let said = said.filter_map(|(name, answer)| Some((&**name, answer.message.as_deref()?)));
    for line in message_lines(said) {
        output::complain(&line);
    }
    let all = answers.iter().all(|answer| answer.done);
    if all { 0 } else { FAILED }
}

fn complain(path: &Path, what: &str) {
    output::complain(&format!("{}: {what}", display_name(path)));
}
