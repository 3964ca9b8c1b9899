//! Carries out the actions of scripts on the disks, in threads, so that a slow action on one disk
//! delays no other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use pathpulse_faultdisk::{Behaviour, DiskSpec, Load, Release, Rig, Spec};

use crate::fault::Fault;
use crate::message::{Clock, RunMsg};
use crate::script::Action;

const THREADS: usize = 12;
/// One of this many disks is watched through a loop device that lies on it.
const STACK_EVERY: usize = 4;
/// The errno of a disk that fails late: EIO.
const LATE_ERRNO: i32 = 5;

/// The disks. Each has a name in a folder that links to its current device, like `/dev/disk/by-id`.
#[derive(Debug)]
pub struct Disks {
    rig: Rig,
    names: Vec<PathBuf>,
    /// The rig's number of the disk above each disk, if there is one.
    above: Vec<Option<usize>>,
}

impl Disks {
    /// Creates `count` disks with names in this folder, and one more without faults. Some of them
    /// are stacks: their names link to a loop device on the disk with the faults.
    ///
    /// # Errors
    /// What could not be created.
    pub fn create(
        rig_server: std::process::Command,
        count: usize,
        folder: &Path,
    ) -> io::Result<Disks> {
        let mut spec = Spec::loops(count + 1);
        let above = (0..count).map(|disk| {
            (disk % STACK_EVERY == STACK_EVERY - 1).then(|| {
                spec.disks.push(DiskSpec {
                    on: Some(disk),
                    ..DiskSpec::default()
                });
                spec.disks.len() - 1
            })
        });
        let above: Vec<Option<usize>> = above.collect();
        let rig = Rig::start_with(rig_server, &spec)?;
        let name = |number: usize| folder.join(format!("disk{number:03}"));
        let names: Vec<PathBuf> = (0..count).map(name).collect();
        for (disk, name) in names.iter().enumerate() {
            let device = rig.disk(above[disk].unwrap_or(disk)).path();
            std::os::unix::fs::symlink(device, name)?;
        }
        Ok(Disks { rig, names, above })
    }

    /// Whether it can vanish. A disk below another one can't.
    pub fn can_vanish(&self, disk: usize) -> bool {
        self.above[disk].is_none()
    }

    /// The disk without faults.
    pub fn control(&self) -> &Path {
        self.rig.disk(self.names.len()).path()
    }

    /// The names of the disks.
    pub fn names(&self) -> &[PathBuf] {
        &self.names
    }

    /// Carries out an action on a disk.
    ///
    /// # Errors
    /// The error of the rig.
    pub fn action(&self, disk: usize, action: Action) -> io::Result<()> {
        let how = |errno: Option<_>| match errno {
            Some((errno, _)) => Release::Error(errno),
            None => Release::Data,
        };
        match action {
            Action::Set(fault) => self.set(disk, fault),
            Action::ReleaseHeld(errno) => self.rig.release(disk, how(errno)).map(drop),
            Action::Heal(Fault::Vanish, _) => self.reattach(disk),
            Action::Heal(_, Some((errno, _))) => {
                self.rig.set(disk, Behaviour::Answer)?;
                self.rig.release(disk, Release::Error(errno)).map(drop)
            }
            Action::Heal(fault, None) => {
                if let Some(upper) = self.above[disk].filter(|_| fault.is_full()) {
                    self.rig.unsaturate(upper)?;
                }
                self.rig.recover(disk).map(drop)
            }
        }
    }

    fn set(&self, disk: usize, fault: Fault) -> io::Result<()> {
        let behaviour = match fault {
            Fault::None => Behaviour::Answer,
            Fault::Hang => Behaviour::Hang,
            Fault::Fail(errno, _) => Behaviour::Fail(errno),
            Fault::Slow(delay) | Fault::Late(delay) | Fault::Edge(delay) => Behaviour::Delay(delay),
            Fault::Flicker(n) => Behaviour::EveryNth {
                n,
                then: Box::new(Behaviour::Fail(5)),
            },
            Fault::Short(bytes) => Behaviour::Short(bytes),
            Fault::Empty => Behaviour::Short(0),
            Fault::Busy(answer_every) => return self.saturate(disk, Load::Busy { answer_every }),
            Fault::Dead => return self.saturate(disk, Load::Dead),
            Fault::Failing(fail_every) => {
                let errno = LATE_ERRNO;
                return self.saturate(disk, Load::Failing { fail_every, errno });
            }
            Fault::Vanish => return self.rig.vanish(disk),
        };
        self.rig.set(disk, behaviour)
    }

    /// Takes all tags of the watched device, and so those of the disk below it.
    fn saturate(&self, disk: usize, load: Load) -> io::Result<()> {
        self.rig.saturate(self.above[disk].unwrap_or(disk), load)
    }

    fn reattach(&self, disk: usize) -> io::Result<()> {
        let device = self.rig.reappear(disk)?;
        let name = &self.names[disk];
        let new = name.with_extension("new");
        std::os::unix::fs::symlink(device.path(), &new)?;
        fs::rename(new, name)
    }

    /// Ends all disks.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn shutdown(self) -> io::Result<()> {
        self.rig.shutdown()
    }
}

/// The threads that carry out actions.
#[derive(Debug)]
pub(crate) struct DiskDriver {
    jobs: Sender<(usize, Action)>,
}

impl DiskDriver {
    /// Starts the threads. They end when they have no more jobs and the driver is dropped.
    pub(crate) fn start(disks: &Arc<Disks>, clock: Clock, messages: &Sender<RunMsg>) -> DiskDriver {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let (disks, queue, messages) =
                (Arc::clone(disks), Arc::clone(&queue), messages.clone());
            thread::spawn(move || work(&disks, &queue, clock, &messages));
        }
        DiskDriver { jobs }
    }

    pub(crate) fn send(&self, disk: usize, action: Action) {
        let _ = self.jobs.send((disk, action));
    }
}

fn work(
    disks: &Disks,
    queue: &Mutex<Receiver<(usize, Action)>>,
    clock: Clock,
    messages: &Sender<RunMsg>,
) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((disk, action)) = job else { return };
        // Sent before the action: its consequences can't arrive earlier.
        let _ = messages.send(RunMsg::ActionStarted(disk, action, clock.now()));
        let done = disks
            .action(disk, action)
            .map_err(|error| error.to_string());
        if messages
            .send(RunMsg::ActionDone(disk, done, clock.now()))
            .is_err()
        {
            return;
        }
    }
}
