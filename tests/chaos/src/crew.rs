//! Does to the disks what scripts say, on threads: what takes long for one disk delays no other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use pathpulse_faultdisk::{Behaviour, DiskSpec, Load, Release, Rig, Spec};

use crate::fault::Fault;
use crate::run::{Clock, News};
use crate::script::Act;

const THREADS: usize = 12;
/// Every so many disks one is watched through a loop device that lies on its own.
const STACK_EVERY: usize = 4;
/// What a disk that fails late says: EIO.
const LATE_ERRNO: i32 = 5;

/// The disks. Each has a name of its own in a folder, which leads to its device wherever that is,
/// as `/dev/disk/by-id` does.
#[derive(Debug)]
pub struct Disks {
    rig: Rig,
    names: Vec<PathBuf>,
    /// The rig's number of the disk above each, if there is one.
    above: Vec<Option<usize>>,
}

impl Disks {
    /// Makes so many, with names in this folder, and one more that nothing is done to. Some of them are
    /// stacks: their names lead to a loop device on the disk that faults are done to.
    ///
    /// # Errors
    /// What could not be made.
    pub fn make(
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

    /// Whether it can be pulled; what lies under another device can't.
    pub fn can_vanish(&self, disk: usize) -> bool {
        self.above[disk].is_none()
    }

    /// The disk that nothing is done to.
    pub fn control(&self) -> &Path {
        self.rig.disk(self.names.len()).path()
    }

    /// Their names.
    pub fn names(&self) -> &[PathBuf] {
        &self.names
    }

    /// Does this to one of them.
    ///
    /// # Errors
    /// The rig's.
    pub fn act(&self, disk: usize, act: Act) -> io::Result<()> {
        let how = |errno: Option<_>| match errno {
            Some((errno, _)) => Release::Error(errno),
            None => Release::Data,
        };
        match act {
            Act::Set(fault) => self.set(disk, fault),
            Act::Pulse(errno) => self.rig.release(disk, how(errno)).map(drop),
            Act::Heal(Fault::Vanish, _) => self.plug_in(disk),
            Act::Heal(_, Some((errno, _))) => {
                self.rig.set(disk, Behaviour::Answer)?;
                self.rig.release(disk, Release::Error(errno)).map(drop)
            }
            Act::Heal(fault, None) => {
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
            Fault::Busy(answer_every) => return self.fill(disk, Load::Busy { answer_every }),
            Fault::Dead => return self.fill(disk, Load::Dead),
            Fault::Failing(fail_every) => {
                let errno = LATE_ERRNO;
                return self.fill(disk, Load::Failing { fail_every, errno });
            }
            Fault::Vanish => return self.rig.vanish(disk),
        };
        self.rig.set(disk, behaviour)
    }

    /// Takes all tags of the device that is watched, and so those of the disk below it.
    fn fill(&self, disk: usize, load: Load) -> io::Result<()> {
        self.rig.saturate(self.above[disk].unwrap_or(disk), load)
    }

    fn plug_in(&self, disk: usize) -> io::Result<()> {
        let device = self.rig.reappear(disk)?;
        let name = &self.names[disk];
        let new = name.with_extension("new");
        std::os::unix::fs::symlink(device.path(), &new)?;
        fs::rename(new, name)
    }

    /// Ends them.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn shutdown(self) -> io::Result<()> {
        self.rig.shutdown()
    }
}

/// The threads.
#[derive(Debug)]
pub(crate) struct Crew {
    jobs: Sender<(usize, Act)>,
}

impl Crew {
    /// Starts them. They end when they have no more to do and the crew is dropped.
    pub(crate) fn start(disks: &Arc<Disks>, clock: Clock, news: &Sender<News>) -> Crew {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let (disks, queue, news) = (Arc::clone(disks), Arc::clone(&queue), news.clone());
            thread::spawn(move || work(&disks, &queue, clock, &news));
        }
        Crew { jobs }
    }

    pub(crate) fn give(&self, disk: usize, act: Act) {
        let _ = self.jobs.send((disk, act));
    }
}

fn work(disks: &Disks, queue: &Mutex<Receiver<(usize, Act)>>, clock: Clock, news: &Sender<News>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((disk, act)) = job else { return };
        // Said before it is done: what follows from it can't be heard of earlier.
        let _ = news.send(News::Begins(disk, act, clock.now()));
        let done = disks.act(disk, act).map_err(|error| error.to_string());
        if news.send(News::Obeyed(disk, done, clock.now())).is_err() {
            return;
        }
    }
}
