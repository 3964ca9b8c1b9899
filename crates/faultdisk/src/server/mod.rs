//! The FUSE server process. It answers FUSE requests and its janitor's commands and touches no device, so it can never
//! wait for itself. It takes the rig down if the janitor dies.
//!
//! Threads: this one reads commands, fuser's reads FUSE requests, and `timer` does what is due later. All of them work on
//! `disks`, one lock per disk, and none ever waits for I/O.

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
use crate::wire::{self, Answer, Command, FINGERPRINT, Reply, Request, context};

use disks::Disks;

/// EIO: what requests get when the rig ends while they are held.
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
                &Reply {
                    id,
                    result: Err(error.into()),
                },
            );
        }
    };
    wire::send(
        io::stdout(),
        &Reply {
            id,
            result: Ok(Answer::Done),
        },
    )?;

    for line in lines {
        let Ok(line) = line else { break };
        let request: Request = serde_json::from_str(&line)?;
        if let Some(result) = execute(&disks, request.id, request.command) {
            // The janitor may be gone; the loop then ends by itself.
            let _ = wire::send(
                io::stdout(),
                &Reply {
                    id: request.id,
                    result: result.map_err(Into::into),
                },
            );
        }
    }
    // The janitor has cleaned up, or it has died, perhaps in the middle of cleaning up.
    disks.close(EIO);
    folder.clean()?.remove_when_closed()?;
    // Not by returning: dropping the session would unmount once more, and join a thread that may still be reading.
    std::process::exit(0)
}

fn first_request(line: Option<io::Result<String>>) -> io::Result<(u64, Spec)> {
    let line = line.ok_or(io::ErrorKind::UnexpectedEof)??;
    let request: Request = serde_json::from_str(&line)?;
    match request.command {
        Command::Start { fingerprint, spec } if fingerprint == FINGERPRINT => {
            Ok((request.id, spec))
        }
        other => Err(context(
            "first command",
            io::Error::other(format!("unexpected {other:?}")),
        )),
    }
}

/// `None`: the answer is sent later, by whoever makes it come true.
fn execute(disks: &Arc<Disks>, id: u64, command: Command) -> Option<io::Result<Answer>> {
    Some(match command {
        Command::Set(changes) => disks.set(changes).map(|()| Answer::Done),
        Command::Release(disk, how) => disks.release(disk, how).map(Answer::Number),
        Command::Recover(disk) => disks.recover(disk, Behaviour::Answer).map(Answer::Number),
        Command::Counts(disk) => disks.counts(disk).map(Answer::Counts),
        Command::WaitHeld {
            disk,
            at_least,
            timeout,
        } => {
            return disks
                .wait(disk, id, disk::Goal::Held(at_least as u64), timeout)
                .err()
                .map(Err);
        }
        Command::WaitIo {
            disk,
            at_least,
            timeout,
        } => {
            return disks
                .wait(disk, id, disk::Goal::Io(at_least), timeout)
                .err()
                .map(Err);
        }
        Command::Vanish(disk) => disks.vanish(disk).map(|()| Answer::Done),
        Command::Reappear(disk) => disks.reappear(disk).map(|()| Answer::Done),
        Command::Shutdown => {
            disks.close(EIO);
            Ok(Answer::Done)
        }
        Command::Start { .. } | Command::Saturate(..) | Command::Unsaturate(_) => {
            Err(wire::invalid("this command is the janitor's"))
        }
    })
}
