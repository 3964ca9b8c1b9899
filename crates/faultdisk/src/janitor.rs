//! The janitor process: makes the rig's folder and loop devices, starts the FUSE server and the load processes, passes
//! commands on to the server, and takes everything down when its user is gone, asks for it, or the server has died.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cleanup::{Folder, StillOpen};
use crate::link::{Link, lock};
use crate::loopdev;
use crate::role::Siblings;
use crate::spec::{Behaviour, DiskSpec, Load, Release, Spec};
use crate::wire::{self, Answer, Command, DiskInfo, FINGERPRINT, Reply, Request, context, invalid};

/// How long the server may take to end once it is asked to; it has nothing to wait for.
const SERVER_END: Duration = Duration::from_secs(5);
/// How long a load process may take to fill all tags.
const FILL_TAGS: Duration = Duration::from_secs(20);
/// How often a loop device is made anew that somebody else has taken or removed before it was attached.
const TRIES: u32 = 16;
/// The kernel wakes those who wait for a tag only once so many tags have been freed. Freed in smaller portions, a tag that
/// an outsider had would stay free for the next outsider.
const WAKE_BATCH: u32 = 8;
/// Threads of a load process beyond the number of tags: they queue for the tags that outsiders give back.
const SPARE_THREADS: usize = 32;

/// Serves one user until it asks for the end or is gone.
pub(crate) fn run(siblings: &Siblings) -> io::Result<()> {
    // The pipe from the user does not end while one of the user's threads waits for a hung read, SIGKILL or not. This
    // signal comes all the same; the server then sees this process end, and cleans up. (See `Link::start` on threads.)
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut lines = io::stdin().lock().lines();
    let request: Request =
        serde_json::from_str(&lines.next().ok_or(io::ErrorKind::UnexpectedEof)??)?;
    let Command::Start { fingerprint, spec } = request.command else {
        return Err(invalid("the first command must be start"));
    };
    let rig = match start(siblings, fingerprint, spec) {
        Ok((rig, ready)) => {
            wire::send(
                io::stdout(),
                &Reply {
                    id: request.id,
                    result: Ok(ready),
                },
            )?;
            rig
        }
        Err(error) => {
            return wire::send(
                io::stdout(),
                &Reply {
                    id: request.id,
                    result: Err(error.into()),
                },
            );
        }
    };
    for line in lines {
        let Ok(Request { id, command }) = line.and_then(|line| Ok(serde_json::from_str(&line)?))
        else {
            break;
        };
        if matches!(command, Command::Shutdown) {
            return shutdown(&rig, id);
        }
        let rig = Arc::clone(&rig);
        // A thread for each: some commands wait, and none may make the others wait.
        thread::spawn(move || {
            let result = rig.execute(command);
            let _ = wire::send(
                io::stdout(),
                &Reply {
                    id,
                    result: result.map_err(Into::into),
                },
            );
        });
    }
    rig.take_down()
        .map_or(Ok(()), |taken_down| taken_down?.remove_when_closed())
}

/// Takes the rig down and tells the user; what it still has open is removed once it is closed.
fn shutdown(rig: &Rig, id: u64) -> io::Result<()> {
    let Some(taken_down) = rig.take_down() else {
        return Ok(());
    };
    let (result, still_open) = match taken_down {
        Ok(still_open) => (
            Ok(Answer::Number(still_open.len() as u64)),
            Some(still_open),
        ),
        Err(error) => (Err(error.into()), None),
    };
    set_parent_process_death_signal(None)?; // once told, the user may well end
    wire::send(io::stdout(), &Reply { id, result })?;
    still_open.map_or(Ok(()), StillOpen::remove_when_closed)
}

/// A running rig.
#[derive(Debug)]
struct Rig {
    siblings: Siblings,
    folder: Folder,
    server: OnceLock<Link>,
    spec: Spec,
    /// One per disk; `None` for a bare file. Set when all are made.
    loops: OnceLock<Mutex<Vec<Option<u32>>>>,
    /// Loop devices of disks that vanished, to be removed when their last user has closed them.
    pulled: Mutex<Vec<u32>>,
    /// The load processes by the lowest disk of the stack; `None` once the rig is being taken down: no new one may
    /// start then.
    loads: Mutex<Option<HashMap<usize, Loaded>>>,
}

/// What takes all tags of a disk.
#[derive(Debug)]
struct Loaded {
    disk: usize,
    load: Child,
}

fn start(siblings: &Siblings, fingerprint: u64, spec: Spec) -> io::Result<(Arc<Rig>, Answer)> {
    if fingerprint != FINGERPRINT {
        return Err(io::Error::other(
            "the faultdisk binary is of another build: run `cargo build -p pathpulse-faultdisk`",
        ));
    }
    let folder = Folder::create()?;
    let siblings = siblings.clone();
    let loads = Mutex::new(Some(HashMap::new()));
    let rig = Rig {
        siblings,
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

impl Rig {
    fn build(self: &Arc<Self>) -> io::Result<Answer> {
        let mut command = self.siblings.command("server");
        command.arg(self.folder.path());
        let on_end = Arc::clone(self);
        let server = Link::start(command, move || {
            // Unasked: what the server held is failed by the kernel now, and the rig is of no use without it. While the
            // rig is still being built the main thread notices, and says why.
            let taken_down = on_end.take_down();
            if let Some(taken_down) = taken_down.filter(|_| on_end.loops.get().is_some()) {
                let _ = taken_down.and_then(StillOpen::remove_when_closed);
                std::process::exit(1);
            }
        })?;
        let server = self.server.get_or_init(|| server);
        server.call(Command::Start {
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
        Ok(Answer::Ready {
            disks,
            janitor: std::process::id(),
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
            self.folder.note_loop(number)?;
            match loopdev::attach(number, file, spec.logical_block) {
                Ok(()) => return Ok(number),
                // Somebody who looked for a free device was faster; it stays theirs.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                // Somebody who had this number before has only now removed it.
                Err(_) if !loopdev::exists(number) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "others keep taking the loop devices that were made",
        ))
    }

    /// What a disk's loop device is attached to, given the loop devices of the disks before it.
    fn file_below(&self, disk: usize, before: &[Option<u32>]) -> io::Result<PathBuf> {
        let spec = &self.spec.disks[disk];
        let Some(base) = spec.on else {
            return Ok(self.folder.file(disk));
        };
        let below = before.get(base).copied().flatten();
        let below = below.filter(|_| spec.loop_device).ok_or_else(|| {
            let rule = "a stacked disk needs a loop device, and one of a disk before it";
            invalid(format!("disk {disk} cannot lie on disk {base}: {rule}"))
        })?;
        Ok(loopdev::node(below))
    }

    /// The disk that lies below this one, below all others: the one that obeys.
    fn lowest(&self, disk: usize) -> usize {
        let below = |disk: &usize| self.spec.disks.get(*disk)?.on;
        std::iter::successors(Some(disk), below)
            .last()
            .unwrap_or(disk)
    }

    /// Refuses commands that only the lowest disk of a stack can obey.
    fn check_lowest(&self, disk: usize) -> io::Result<()> {
        match self.lowest(disk) {
            lowest if lowest == disk => Ok(()),
            lowest => Err(invalid(format!(
                "disk {disk} lies on disk {lowest}: command that one"
            ))),
        }
    }

    fn server(&self) -> io::Result<&Link> {
        self.server
            .get()
            .ok_or_else(|| io::Error::other("the server has not been started"))
    }

    fn execute(&self, command: Command) -> io::Result<Answer> {
        match &command {
            Command::Set(changes) => changes
                .iter()
                .try_for_each(|(disk, _)| self.check_lowest(*disk))?,
            Command::Release(disk, _)
            | Command::Recover(disk)
            | Command::Counts(disk)
            | Command::WaitHeld { disk, .. }
            | Command::WaitIo { disk, .. }
            | Command::Vanish(disk)
            | Command::Reappear(disk) => self.check_lowest(*disk)?,
            Command::Start { .. }
            | Command::Saturate(..)
            | Command::Unsaturate(_)
            | Command::Shutdown => {}
        }
        match command {
            Command::Saturate(disk, load) => self.saturate(disk, load),
            Command::Unsaturate(disk) => self.unsaturate(self.lowest(disk)),
            Command::Recover(disk) if self.is_loaded(disk) => self.unsaturate(disk),
            Command::Vanish(disk) => self.vanish(disk),
            Command::Reappear(disk) => self.reappear(disk),
            Command::Set(ref changes) if changes.iter().any(|(disk, _)| self.is_loaded(*disk)) => {
                Err(invalid(
                    "a saturated disk's behaviour cannot be set: unsaturate it first",
                ))
            }
            other => self.server()?.call(other),
        }
    }

    fn is_loaded(&self, disk: usize) -> bool {
        lock(&self.loads)
            .as_ref()
            .is_some_and(|loads| loads.contains_key(&self.lowest(disk)))
    }

    fn loop_of(&self, disk: usize) -> Option<u32> {
        *lock(self.loops.get()?).get(disk)?
    }

    fn set(&self, disk: usize, behaviour: Behaviour) -> io::Result<Answer> {
        self.server()?.call(Command::Set(vec![(disk, behaviour)]))
    }

    /// Fills all tags of a hanging disk, then lets it drip if it is to end reads. What lies below a stacked disk hangs and
    /// drips for it.
    fn saturate(&self, disk: usize, load: Load) -> io::Result<Answer> {
        let number = self
            .loop_of(disk)
            .ok_or_else(|| invalid("only a loop device can be saturated"))?;
        let (every, ends) = match load {
            Load::Dead => (None, Release::Data),
            Load::Busy { answer_every } => (Some(answer_every), Release::Data),
            Load::Failing { fail_every, errno } => (Some(fail_every), Release::Error(errno)),
        };
        ends.check()?;
        let tags = loopdev::tags(number)?;
        let lowest = self.lowest(disk);
        self.set(lowest, Behaviour::Hang)?;
        self.start_load(disk, number, tags + SPARE_THREADS)?;
        let full = Command::WaitHeld {
            disk: lowest,
            at_least: tags,
            timeout: FILL_TAGS,
        };
        self.server()?
            .call(full)
            .map_err(|e| context(format_args!("filling the {tags} tags"), e))?;
        let Some(every) = every else {
            return Ok(Answer::Done);
        };
        let drip = Behaviour::Drip {
            every: every * WAKE_BATCH,
            at_once: WAKE_BATCH,
            ends,
        };
        self.set(lowest, drip)
    }

    fn start_load(&self, disk: usize, number: u32, threads: usize) -> io::Result<()> {
        let mut loads = lock(&self.loads);
        let loads = loads
            .as_mut()
            .ok_or_else(|| invalid("the rig is being taken down"))?;
        match loads.entry(self.lowest(disk)) {
            Entry::Occupied(loaded) if loaded.get().disk != disk => Err(invalid(format!(
                "disk {disk} cannot be saturated while disk {} of its stack is",
                loaded.get().disk
            ))),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(free) => {
                let mut command = self.siblings.command("load");
                command.arg(loopdev::node(number)).arg(threads.to_string());
                command.stdin(Stdio::piped()).stdout(Stdio::null());
                let load = command.spawn()?;
                free.insert(Loaded { disk, load });
                Ok(())
            }
        }
    }

    /// The disk answers again first: only then can the load process die. Killed before that, it makes no more reads.
    fn unsaturate(&self, disk: usize) -> io::Result<Answer> {
        self.kill_load(disk)?;
        let answer = self.server()?.call(Command::Recover(disk))?;
        self.stop_load(disk)?;
        Ok(answer)
    }

    fn kill_load(&self, disk: usize) -> io::Result<()> {
        let mut loads = lock(&self.loads);
        let load = loads.as_mut().and_then(|loads| loads.get_mut(&disk));
        load.map_or(Ok(()), |loaded| loaded.load.kill())
    }

    fn stop_load(&self, disk: usize) -> io::Result<()> {
        let load = lock(&self.loads)
            .as_mut()
            .and_then(|loads| loads.remove(&disk));
        load.map_or(Ok(()), end)
    }

    fn vanish(&self, disk: usize) -> io::Result<Answer> {
        let mut others = self.spec.disks.iter();
        if let Some(upper) = others.position(|other| other.on == Some(disk)) {
            let why = format!("disk {disk} cannot vanish: disk {upper} lies on it");
            return Err(invalid(why));
        }
        self.kill_load(disk)?;
        let answer = self.server()?.call(Command::Vanish(disk))?;
        self.stop_load(disk)?;
        if let Some(number) = self.loop_of(disk) {
            std::fs::metadata(self.folder.file(disk))?; // makes the kernel take note of the file's new size, 0
            loopdev::adopt_size(number)?;
            loopdev::detach(number)?;
            std::fs::remove_file(loopdev::node(number))?;
            self.remove_pulled(Some(number))?;
        }
        Ok(answer)
    }

    /// Removes those pulled devices that nobody has open any more.
    fn remove_pulled(&self, more: Option<u32>) -> io::Result<()> {
        let control = loopdev::control()?;
        let mut pulled = lock(&self.pulled);
        pulled.extend(more);
        pulled.retain(|&number| !matches!(loopdev::remove(&control, number), Ok(true)));
        Ok(())
    }

    /// Gives a vanished disk another loop device.
    fn reappear(&self, disk: usize) -> io::Result<Answer> {
        self.remove_pulled(None)?;
        // Held so that the rig is not taken down meanwhile, and leaves the new device.
        let loads = lock(&self.loads);
        if loads.is_none() {
            return Err(invalid("the rig is being taken down"));
        }
        self.server()?.call(Command::Reappear(disk))?;
        let number = self.loop_of(disk);
        let new = number.map(|_| {
            std::fs::metadata(self.folder.file(disk))?; // makes the kernel take note of the file's size
            let (control, start) = (loopdev::control()?, loopdev::random_start());
            let file = self.folder.file(disk);
            self.make_loop(&control, start, &file, &self.spec.disks[disk])
        });
        let new = new.transpose()?;
        if let Some(place) = self
            .loops
            .get()
            .map(lock)
            .as_mut()
            .and_then(|l| l.get_mut(disk))
        {
            *place = new;
        }
        info(self.folder.file(disk), new).map(Answer::Disk)
    }

    /// Ends everything, in the only order in which nothing hangs. `None`: somebody else has done so.
    fn take_down(&self) -> Option<io::Result<StillOpen>> {
        let mut loads = lock(&self.loads);
        let running = loads.take()?;
        // An error means that the server is dead, which releases everything as well.
        let _ = self
            .server()
            .and_then(|server| server.call(Command::Shutdown));
        let ended = running.into_values().try_for_each(end);
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

fn end(mut loaded: Loaded) -> io::Result<()> {
    loaded.load.kill()?;
    loaded.load.wait()?;
    Ok(())
}

/// Where the disk above this file is: at a loop device, or the file itself.
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
