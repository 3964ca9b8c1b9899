//! The supervisor process of a rig. It creates the rig's folder and loop devices, starts the FUSE
//! server and the load processes, and passes commands on to the server. It takes everything down
//! when its user ends or asks for it, or when the server ends.

mod commands;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cleanup::{Folder, OpenDevices};
use crate::client::{Client, lock};
use crate::loopdev;
use crate::role::ProcessStarter;
use crate::spec::{DiskSpec, Spec};
use crate::wire::{
    self, AnswerMsg, CommandMsg, DiskInfo, FINGERPRINT, ReplyMsg, RequestMsg, invalid,
};

/// How long the server may take to end. It has nothing to wait for.
const SERVER_END: Duration = Duration::from_secs(5);
/// How many times to recreate a loop device that another process took or removed before it was
/// attached.
const TRIES: u32 = 16;

/// Serves one user until it asks for the end or has ended.
pub(crate) fn run(starter: &ProcessStarter) -> io::Result<()> {
    // The pipe from the user does not end while one of the user's threads waits for a hung read,
    // not even after SIGKILL. This signal arrives anyway. The server then detects the end of this
    // process, and cleans up. (`Client::start` describes which thread matters.)
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut lines = io::stdin().lock().lines();
    let request: RequestMsg =
        serde_json::from_str(&lines.next().ok_or(io::ErrorKind::UnexpectedEof)??)?;
    let CommandMsg::Start { fingerprint, spec } = request.command else {
        return Err(invalid("the first command must be start"));
    };
    let rig = match start(starter, fingerprint, spec) {
        Ok((rig, ready)) => {
            wire::send(
                io::stdout(),
                &ReplyMsg {
                    id: request.id,
                    result: Ok(ready),
                },
            )?;
            rig
        }
        Err(error) => {
            return wire::send(
                io::stdout(),
                &ReplyMsg {
                    id: request.id,
                    result: Err(error.into()),
                },
            );
        }
    };
    for line in lines {
        let Ok(RequestMsg { id, command }) = line.and_then(|line| Ok(serde_json::from_str(&line)?))
        else {
            break;
        };
        if matches!(command, CommandMsg::Shutdown) {
            return shutdown(&rig, id);
        }
        let rig = Arc::clone(&rig);
        // Each command has its own thread, because some commands wait and must not delay the
        // others.
        thread::spawn(move || {
            let result = rig.execute(command);
            let _ = wire::send(
                io::stdout(),
                &ReplyMsg {
                    id,
                    result: result.map_err(Into::into),
                },
            );
        });
    }
    rig.take_down()
        .map_or(Ok(()), |taken_down| taken_down?.remove_when_closed())
}

/// Takes the rig down and tells the user. Devices that are still open are removed when they are
/// closed.
fn shutdown(rig: &RunningRig, id: u64) -> io::Result<()> {
    let Some(taken_down) = rig.take_down() else {
        return Ok(());
    };
    let (result, still_open) = match taken_down {
        Ok(still_open) => (
            Ok(AnswerMsg::Number(still_open.len() as u64)),
            Some(still_open),
        ),
        Err(error) => (Err(error.into()), None),
    };
    set_parent_process_death_signal(None)?; // The user may end after the reply.
    wire::send(io::stdout(), &ReplyMsg { id, result })?;
    still_open.map_or(Ok(()), OpenDevices::remove_when_closed)
}

/// A running rig.
#[derive(Debug)]
struct RunningRig {
    starter: ProcessStarter,
    folder: Folder,
    server: OnceLock<Client>,
    spec: Spec,
    /// One entry per disk, `None` for a bare file. Set when all are created.
    loops: OnceLock<Mutex<Vec<Option<u32>>>>,
    /// Loop devices of vanished disks, to be removed after their last close.
    pulled: Mutex<Vec<u32>>,
    /// The load processes, by the lowest disk of the stack. `None` once the rig is being taken
    /// down, because then no new one may start.
    loads: Mutex<Option<HashMap<usize, Loaded>>>,
}

/// The process that takes all tags of a disk.
#[derive(Debug)]
struct Loaded {
    disk: usize,
    load: Child,
}

fn start(
    starter: &ProcessStarter,
    fingerprint: u64,
    spec: Spec,
) -> io::Result<(Arc<RunningRig>, AnswerMsg)> {
    if fingerprint != FINGERPRINT {
        return Err(io::Error::other(
            "the faultdisk binary is from another build: run `cargo build -p pathpulse-faultdisk`",
        ));
    }
    let folder = Folder::create()?;
    let starter = starter.clone();
    let loads = Mutex::new(Some(HashMap::new()));
    let rig = RunningRig {
        starter,
        folder,
        server: OnceLock::new(),
        spec,
        loops: OnceLock::new(),
        pulled: Mutex::default(),
        loads,
    };
    let rig = Arc::new(rig);
    match rig.build() {
        Ok(ready) => Ok((rig, ready)),
        Err(error) => {
            let _ = rig.take_down();
            Err(error)
        }
    }
}

impl RunningRig {
    fn build(self: &Arc<Self>) -> io::Result<AnswerMsg> {
        let mut command = self.starter.command("server");
        command.arg(self.folder.path());
        let on_end = Arc::clone(self);
        let server = Client::start(command, move || {
            // The server ended unexpectedly. The kernel now fails the requests it held, and the rig
            // is useless without it. While the rig is still being built, the main thread notices
            // this and reports the reason.
            let taken_down = on_end.take_down();
            if let Some(taken_down) = taken_down.filter(|_| on_end.loops.get().is_some()) {
                let _ = taken_down.and_then(OpenDevices::remove_when_closed);
                std::process::exit(1);
            }
        })?;
        let server = self.server.get_or_init(|| server);
        server.call(CommandMsg::Start {
            fingerprint: FINGERPRINT,
            spec: self.spec.clone(),
        })?;
        let (control, start) = (loopdev::control()?, loopdev::random_start());
        let mut loops = Vec::new();
        let mut disks = Vec::new();
        for (i, disk) in self.spec.disks.iter().enumerate() {
            let file = self.file_below(i, &loops)?;
            let number = if disk.loop_device {
                Some(self.make_loop(&control, start, &file, disk)?)
            } else {
                None
            };
            disks.push(info(file, number)?);
            loops.push(number);
        }
        self.loops.get_or_init(|| Mutex::new(loops));
        let folder = self.folder.path().to_path_buf();
        Ok(AnswerMsg::Ready {
            disks,
            supervisor: std::process::id(),
            server: server.pid(),
            folder,
        })
    }

    fn make_loop(
        &self,
        control: &File,
        start: u32,
        file: &Path,
        spec: &DiskSpec,
    ) -> io::Result<u32> {
        for _ in 0..TRIES {
            let number = loopdev::add(control, start)?;
            self.folder.record_loop(number)?;
            match loopdev::attach(number, file, spec.logical_block) {
                Ok(()) => return Ok(number),
                // Another process looking for a free device was faster. It keeps this one.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                // The previous owner of this number has only now removed its device.
                Err(_) if !loopdev::exists(number) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "other processes keep taking the new loop devices",
        ))
    }

    /// The file to attach a disk's loop device to, given the loop devices of the disks before it.
    fn file_below(&self, disk: usize, before: &[Option<u32>]) -> io::Result<PathBuf> {
        let spec = &self.spec.disks[disk];
        let Some(base) = spec.on else {
            return Ok(self.folder.file(disk));
        };
        let below = before.get(base).copied().flatten();
        let below = below.filter(|_| spec.loop_device).ok_or_else(|| {
            let rule = "it needs a loop device, and an earlier disk that has one";
            invalid(format!("disk {disk} cannot lie on disk {base}: {rule}"))
        })?;
        Ok(loopdev::node(below))
    }

    fn server(&self) -> io::Result<&Client> {
        self.server
            .get()
            .ok_or_else(|| io::Error::other("the server has not been started"))
    }

    /// Ends everything in the only order in which nothing hangs. `None` if this was already done.
    fn take_down(&self) -> Option<io::Result<OpenDevices>> {
        let mut loads = lock(&self.loads);
        let running = loads.take()?;
        // An error means that the server has ended, which also releases everything.
        let _ = self
            .server()
            .and_then(|server| server.call(CommandMsg::Shutdown));
        let ended = running.into_values().try_for_each(end_load);
        let cleaned = self.folder.clean();
        if let Some(server) = self.server.get() {
            server.close();
            if !server.wait_end(SERVER_END) {
                server.kill();
            }
        }
        Some(cleaned.and_then(|still_open| ended.map(|()| still_open)))
    }
}

fn end_load(mut loaded: Loaded) -> io::Result<()> {
    loaded.load.kill()?;
    loaded.load.wait()?;
    Ok(())
}

/// The location of a disk above this file: a loop device, or the file itself.
fn info(file: PathBuf, number: Option<u32>) -> io::Result<DiskInfo> {
    let (major, minor) = number.map_or(Ok((0, 0)), loopdev::device_number)?;
    let path = number.map_or_else(|| file.clone(), loopdev::node);
    Ok(DiskInfo {
        path,
        file,
        major,
        minor,
    })
}
