//! All disks of the rig: takes requests from FUSE and commands from the janitor, lets `disk` decide, and does what was
//! decided.
//!
//! Rule: a disk's lock is held while its state changes, never while a reply is sent.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::link::lock;
use crate::spec::{Behaviour, Counts, Release, Spec};
use crate::wire::{self, Answer, Reply, invalid};

use super::disk::{Decision, Disk, Goal};
use super::fs::{End, Io};
use super::store::Store;
use super::timer::Timer;

/// ENODEV: what a vanished disk's requests get.
const ENODEV: i32 = 19;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Disks {
    slots: Vec<Slot>,
    timer: Timer<Job>,
}

#[derive(Debug)]
struct Slot {
    size_bytes: u64,
    disk: Mutex<Disk<Io>>,
    store: Mutex<Store>,
}

#[derive(Debug)]
enum Job {
    /// A delayed request is due.
    Finish(usize, Io),
    /// The oldest held requests of a dripping disk are due.
    Drip(Drip),
    /// Somebody has waited long enough.
    GiveUp { disk: usize, id: u64 },
}

/// A dripping disk; over once the disk's generation is another.
#[derive(Debug, Clone, Copy)]
struct Drip {
    disk: usize,
    generation: u64,
    every: Duration,
    at_once: u32,
    ends: End,
}

impl Disks {
    /// Makes them, and starts the thread for what is due later.
    pub(super) fn new(spec: &Spec) -> Arc<Self> {
        let slot = |size_bytes| Slot {
            size_bytes,
            disk: Mutex::new(Disk::new()),
            store: Mutex::default(),
        };
        let slots = spec
            .disks
            .iter()
            .map(|disk| slot(disk.size_bytes))
            .collect();
        let disks = Arc::new(Self {
            slots,
            timer: Timer::new(),
        });
        let for_timer = Arc::clone(&disks);
        thread::spawn(move || {
            loop {
                for_timer.run(for_timer.timer.next());
            }
        });
        disks
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The size in bytes, 0 once the disk has vanished; `None` if there is no such disk.
    pub(super) fn size(&self, disk: usize) -> Option<u64> {
        let slot = self.slots.get(disk)?;
        Some(if lock(&slot.disk).gone {
            0
        } else {
            slot.size_bytes
        })
    }

    /// Deals with a request that has arrived. `disk` exists.
    pub(super) fn arrived(&self, disk: usize, io: Io) {
        let slot = &self.slots[disk];
        let mut state = lock(&slot.disk);
        match &io {
            Io::Read { .. } => state.counts.reads += 1,
            Io::Write { .. } => state.counts.writes += 1,
        }
        let decision = state.decide();
        let end_now = match decision {
            Decision::Answer => Some((io, End::Whole)),
            Decision::Short(bytes) => Some((io, End::AtMost(bytes))),
            Decision::Fail(errno) => Some((io, End::Error(errno))),
            Decision::Hold => {
                state.hold(io);
                None
            }
            Decision::Delay(time) => {
                state.counts.delayed += 1;
                self.timer.add(Instant::now() + time, Job::Finish(disk, io));
                None
            }
        };
        if let Some((_, end)) = &end_now {
            count(&mut state.counts, *end, 1);
        }
        announce(state);
        if let Some((io, end)) = end_now {
            io.end(end, &slot.store);
        }
    }

    pub(super) fn set(&self, changes: Vec<(usize, Behaviour)>) -> io::Result<()> {
        for (disk, behaviour) in &changes {
            self.slot(*disk)?;
            behaviour.check()?;
        }
        for (disk, behaviour) in changes {
            self.change(disk, behaviour)?;
        }
        Ok(())
    }

    fn change(&self, disk: usize, behaviour: Behaviour) -> io::Result<()> {
        let mut state = lock(&self.slot(disk)?.disk);
        if state.gone {
            return Err(invalid(format!("disk {disk} has vanished")));
        }
        state.set(behaviour);
        if let Behaviour::Drip {
            every,
            at_once,
            ends,
        } = state.behaviour
        {
            let generation = state.generation;
            self.drip_later(Drip {
                disk,
                generation,
                every,
                at_once,
                ends: ends.into(),
            });
        }
        Ok(())
    }

    /// Ends all requests that are held now; returns how many.
    pub(super) fn release(&self, disk: usize, how: Release) -> io::Result<u64> {
        how.check()?;
        let end = End::from(how);
        let slot = self.slot(disk)?;
        let held = {
            let mut state = lock(&slot.disk);
            let held = state.take_all();
            count(&mut state.counts, end, held.len() as u64);
            held
        };
        let released = held.len() as u64;
        held.into_iter().for_each(|io| io.end(end, &slot.store));
        Ok(released)
    }

    /// Changes the behaviour, then ends what is held with data.
    pub(super) fn recover(&self, disk: usize, behaviour: Behaviour) -> io::Result<u64> {
        self.change(disk, behaviour)?;
        self.release(disk, Release::Data)
    }

    pub(super) fn counts(&self, disk: usize) -> io::Result<Counts> {
        Ok(lock(&self.slot(disk)?.disk).counts)
    }

    /// Lets `id` be answered once the goal is reached, or told that it timed out.
    pub(super) fn wait(
        &self,
        disk: usize,
        id: u64,
        goal: Goal,
        timeout: Duration,
    ) -> io::Result<()> {
        let mut state = lock(&self.slot(disk)?.disk);
        state.waiters.push((id, goal));
        self.timer
            .add(Instant::now() + timeout, Job::GiveUp { disk, id });
        announce(state);
        Ok(())
    }

    /// The disk is gone: everything under way and everything that comes fails with ENODEV; the file's size is 0.
    pub(super) fn vanish(&self, disk: usize) -> io::Result<()> {
        self.change(disk, Behaviour::Fail(ENODEV))?;
        lock(&self.slot(disk)?.disk).gone = true;
        self.fail_all(disk, ENODEV);
        Ok(())
    }

    /// A vanished disk is there again, and answers.
    pub(super) fn reappear(&self, disk: usize) -> io::Result<()> {
        let mut state = lock(&self.slot(disk)?.disk);
        if !state.gone {
            return Err(invalid(format!("disk {disk} has not vanished")));
        }
        state.gone = false;
        state.set(Behaviour::Answer);
        Ok(())
    }

    /// The rig ends: everything under way and everything that comes fails.
    pub(super) fn close(&self, errno: i32) {
        for (disk, slot) in self.slots.iter().enumerate() {
            lock(&slot.disk).set(Behaviour::Fail(errno));
            self.fail_all(disk, errno);
        }
    }

    fn fail_all(&self, disk: usize, errno: i32) {
        let _ = self.release(disk, Release::Error(errno));
        let delayed = self
            .timer
            .take(|job| matches!(job, Job::Finish(of, _) if *of == disk));
        for job in delayed {
            if let Job::Finish(_, io) = job {
                self.finish_delayed(disk, io, End::Error(errno));
            }
        }
    }

    fn finish_delayed(&self, disk: usize, io: Io, end: End) {
        let slot = &self.slots[disk];
        {
            let mut state = lock(&slot.disk);
            state.counts.delayed -= 1;
            count(&mut state.counts, end, 1);
        }
        io.end(end, &slot.store);
    }

    fn run(&self, job: Job) {
        match job {
            Job::Finish(disk, io) => self.finish_delayed(disk, io, End::Whole),
            Job::Drip(drip) => self.drip(drip),
            Job::GiveUp { disk, id } => {
                let mut state = lock(&self.slots[disk].disk);
                let before = state.waiters.len();
                state.waiters.retain(|(waiter, _)| *waiter != id);
                if state.waiters.len() < before {
                    let counts = state.counts;
                    drop(state);
                    let message = format!("disk {disk} did not get there in time: {counts:?}");
                    reply(id, Err(io::Error::new(io::ErrorKind::TimedOut, message)));
                }
            }
        }
    }

    fn drip(&self, drip: Drip) {
        let slot = &self.slots[drip.disk];
        let oldest = {
            let mut state = lock(&slot.disk);
            if state.generation != drip.generation {
                return;
            }
            let oldest = state.take_oldest(drip.at_once.max(1) as usize);
            count(&mut state.counts, drip.ends, oldest.len() as u64);
            oldest
        };
        self.drip_later(drip);
        oldest
            .into_iter()
            .for_each(|io| io.end(drip.ends, &slot.store));
    }

    fn drip_later(&self, drip: Drip) {
        self.timer.add(Instant::now() + drip.every, Job::Drip(drip));
    }

    fn slot(&self, disk: usize) -> io::Result<&Slot> {
        self.slots.get(disk).ok_or_else(|| {
            invalid(format!(
                "there is no disk {disk}, only {}",
                self.slots.len()
            ))
        })
    }
}

impl From<Release> for End {
    fn from(how: Release) -> Self {
        match how {
            Release::Data => Self::Whole,
            Release::Error(errno) => Self::Error(errno),
        }
    }
}

fn count(counts: &mut Counts, end: End, requests: u64) {
    match end {
        End::Whole | End::AtMost(_) => counts.answered += requests,
        End::Error(_) => counts.failed += requests,
    }
}

/// Unlocks the disk and tells those whose goal is reached.
fn announce(mut state: MutexGuard<'_, Disk<Io>>) {
    let reached = state.reached();
    drop(state);
    for (id, value) in reached {
        reply(id, Ok(Answer::Number(value)));
    }
}

/// An error means that the janitor is gone, which the main thread finds out by itself.
fn reply(id: u64, result: io::Result<Answer>) {
    let _ = wire::send(
        io::stdout(),
        &Reply {
            id,
            result: result.map_err(Into::into),
        },
    );
}
