//! The FUSE server process. It answers FUSE requests and its supervisor's commands, and touches no
//! device, so it never waits for itself. It takes the rig down if the supervisor dies.
//!
//! Threads: this one reads commands, fuser's reads FUSE requests, and `timer` runs delayed jobs.
//! All of them use `disks`, with one lock per disk, and none waits for I/O.

mod disk;
mod disks;
mod fs;
mod store;
mod timer;

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use crate::cleanup::Folder;
use crate::spec::{Behaviour, Spec};
use crate::wire::{self, AnswerMsg, CommandMsg, FINGERPRINT, ReplyMsg, RequestMsg, context};

use disks::Disks;

/// EIO: the error of requests that are held when the rig ends.
const EIO: i32 = 5;

/// Serves the rig in this folder until stdin ends.
pub(crate) fn run(folder: &Path) -> io::Result<()> {
    let folder = Folder::open(folder)?;
    let mut lines = io::stdin().lock().lines();
    let (id, spec) = first_request(lines.next())?;
    let disks = Disks::new(&spec);
    let _session = match fs::mount(Arc::clone(&disks), &folder.mount_point()) {
        Ok(session) => session,
        Err(error) => {
            return wire::send(
                io::stdout(),
                &ReplyMsg {
                    id,
                    result: Err(error.into()),
                },
            );
        }
    };
    wire::send(
        io::stdout(),
        &ReplyMsg {
            id,
            result: Ok(AnswerMsg::Done),
        },
    )?;

    for line in lines {
        let Ok(line) = line else { break };
        let request: RequestMsg = serde_json::from_str(&line)?;
        if let Some(result) = execute(&disks, request.id, request.command) {
            // The supervisor may have ended. The loop then ends as well.
            let _ = wire::send(
                io::stdout(),
                &ReplyMsg {
                    id: request.id,
                    result: result.map_err(Into::into),
                },
            );
        }
    }
    // The supervisor has cleaned up, or has died, perhaps while cleaning up.
    disks.close(EIO);
    folder.clean()?.remove_when_closed()?;
    // Do not return: dropping the session would unmount again, and join a thread that may still be
    // reading.
    std::process::exit(0)
}

fn first_request(line: Option<io::Result<String>>) -> io::Result<(u64, Spec)> {
    let line = line.ok_or(io::ErrorKind::UnexpectedEof)??;
    let request: RequestMsg = serde_json::from_str(&line)?;
    match request.command {
        CommandMsg::Start { fingerprint, spec } if fingerprint == FINGERPRINT => {
            Ok((request.id, spec))
        }
        other => Err(context(
            "first command",
            io::Error::other(format!("unexpected {other:?}")),
        )),
    }
}

/// `None` means that the answer is sent later, when the awaited condition is met.
fn execute(disks: &Arc<Disks>, id: u64, command: CommandMsg) -> Option<io::Result<AnswerMsg>> {
    Some(match command {
        CommandMsg::Set(changes) => disks.set(changes).map(|()| AnswerMsg::Done),
        CommandMsg::Release(disk, how) => disks.release(disk, how).map(AnswerMsg::Number),
        CommandMsg::Recover(disk) => disks
            .recover(disk, Behaviour::Answer)
            .map(AnswerMsg::Number),
        CommandMsg::Counts(disk) => disks.counts(disk).map(AnswerMsg::Counts),
        CommandMsg::WaitHeld {
            disk,
            at_least,
            timeout,
        } => {
            return disks
                .wait(disk, id, disk::Goal::Held(at_least as u64), timeout)
                .err()
                .map(Err);
        }
        CommandMsg::WaitArrived {
            disk,
            at_least,
            timeout,
        } => {
            return disks
                .wait(disk, id, disk::Goal::Arrived(at_least), timeout)
                .err()
                .map(Err);
        }
        CommandMsg::Vanish(disk) => disks.vanish(disk).map(|()| AnswerMsg::Done),
        CommandMsg::Reappear(disk) => disks.reappear(disk).map(|()| AnswerMsg::Done),
        CommandMsg::Shutdown => {
            disks.close(EIO);
            Ok(AnswerMsg::Done)
        }
        CommandMsg::Start { .. } | CommandMsg::Saturate(..) | CommandMsg::Unsaturate(_) => {
            Err(wire::invalid("this command is for the supervisor"))
        }
    })
}
