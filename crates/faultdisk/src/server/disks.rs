//! All disks of the rig: takes requests from FUSE and commands from the supervisor, lets `disk`
//! decide, and carries out the decision.
//!
//! A disk's lock is held while its state changes, never while a reply is sent.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::lock;
use crate::spec::{Behaviour, Counts, Release, Spec};
use crate::wire::{self, AnswerMsg, ReplyMsg, invalid};

use super::disk::{Decision, DiskState, Goal};
use super::fs::{DiskRequest, RequestEnd};
use super::store::Store;
use super::timer::Timer;

/// ENODEV: the error of a vanished disk's requests.
const ENODEV: i32 = 19;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Disks {
    slots: Vec<Slot>,
    timer: Timer<Job>,
}

#[derive(Debug)]
struct Slot {
    size_bytes: u64,
    disk: Mutex<DiskState<DiskRequest>>,
    store: Mutex<Store>,
}

#[derive(Debug)]
enum Job {
    /// A delayed request is due.
    Finish(usize, DiskRequest),
    /// The oldest held requests of a dripping disk are due.
    Drip(Drip),
    /// A caller's wait has timed out.
    WaitTimeout { disk: usize, id: u64 },
}

/// A dripping disk. It stops when the disk's generation changes.
#[derive(Debug, Clone, Copy)]
struct Drip {
    disk: usize,
    generation: u64,
    every: Duration,
    at_once: u32,
    ends: RequestEnd,
}

impl Disks {
    /// Creates the disks, and starts the thread of the timer.
    pub(super) fn new(spec: &Spec) -> Arc<Self> {
        let slot = |size_bytes| Slot {
            size_bytes,
            disk: Mutex::new(DiskState::new()),
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

    /// The size in bytes, or 0 if the disk has vanished. `None` if there is no such disk.
    pub(super) fn size(&self, disk: usize) -> Option<u64> {
        let slot = self.slots.get(disk)?;
        Some(if lock(&slot.disk).vanished {
            0
        } else {
            slot.size_bytes
        })
    }

    /// Handles a request that has arrived. `disk` must exist.
    pub(super) fn arrived(&self, disk: usize, io: DiskRequest) {
        let slot = &self.slots[disk];
        let mut state = lock(&slot.disk);
        match &io {
            DiskRequest::Read { .. } => state.counts.reads += 1,
            DiskRequest::Write { .. } => state.counts.writes += 1,
        }
        let decision = state.decide();
        let end_now = match decision {
            Decision::Answer => Some((io, RequestEnd::Whole)),
            Decision::Short(bytes) => Some((io, RequestEnd::AtMost(bytes))),
            Decision::Fail(errno) => Some((io, RequestEnd::Error(errno))),
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
        notify_waiters(state);
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
        if state.vanished {
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

    /// Ends all requests that are held now. Returns their number.
    pub(super) fn release(&self, disk: usize, how: Release) -> io::Result<u64> {
        how.check()?;
        let end = RequestEnd::from(how);
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

    /// Changes the behaviour, then ends held requests with data.
    pub(super) fn recover(&self, disk: usize, behaviour: Behaviour) -> io::Result<u64> {
        self.change(disk, behaviour)?;
        self.release(disk, Release::Data)
    }

    pub(super) fn counts(&self, disk: usize) -> io::Result<Counts> {
        Ok(lock(&self.slot(disk)?.disk).counts)
    }

    /// Registers a waiter: `id` is answered when the goal is reached, or when the timeout passes.
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
            .add(Instant::now() + timeout, Job::WaitTimeout { disk, id });
        notify_waiters(state);
        Ok(())
    }

    /// The disk vanishes: all current and future requests fail with ENODEV, and the file's size is
    /// 0.
    pub(super) fn vanish(&self, disk: usize) -> io::Result<()> {
        self.change(disk, Behaviour::Fail(ENODEV))?;
        lock(&self.slot(disk)?.disk).vanished = true;
        self.fail_all(disk, ENODEV);
        Ok(())
    }

    /// A vanished disk exists again, and answers.
    pub(super) fn reappear(&self, disk: usize) -> io::Result<()> {
        let mut state = lock(&self.slot(disk)?.disk);
        if !state.vanished {
            return Err(invalid(format!("disk {disk} has not vanished")));
        }
        state.vanished = false;
        state.set(Behaviour::Answer);
        Ok(())
    }

    /// The rig ends: all current and future requests fail.
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
                self.finish_delayed(disk, io, RequestEnd::Error(errno));
            }
        }
    }

    fn finish_delayed(&self, disk: usize, io: DiskRequest, end: RequestEnd) {
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
            Job::Finish(disk, io) => self.finish_delayed(disk, io, RequestEnd::Whole),
            Job::Drip(drip) => self.drip(drip),
            Job::WaitTimeout { disk, id } => {
                let mut state = lock(&self.slots[disk].disk);
                let before = state.waiters.len();
                state.waiters.retain(|(waiter, _)| *waiter != id);
                if state.waiters.len() < before {
                    let counts = state.counts;
                    drop(state);
                    let message =
                        format!("disk {disk} did not reach the count in time: {counts:?}");
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

impl From<Release> for RequestEnd {
    fn from(how: Release) -> Self {
        match how {
            Release::Data => Self::Whole,
            Release::Error(errno) => Self::Error(errno),
        }
    }
}

fn count(counts: &mut Counts, end: RequestEnd, requests: u64) {
    match end {
        RequestEnd::Whole | RequestEnd::AtMost(_) => counts.answered += requests,
        RequestEnd::Error(_) => counts.failed += requests,
    }
}

/// Unlocks the disk and answers the waiters whose goal is reached.
fn notify_waiters(mut state: MutexGuard<'_, DiskState<DiskRequest>>) {
    let reached = state.reached();
    drop(state);
    for (id, value) in reached {
        reply(id, Ok(AnswerMsg::Number(value)));
    }
}

/// An error means that the supervisor has ended, which the main thread detects itself.
fn reply(id: u64, result: io::Result<AnswerMsg>) {
    let _ = wire::send(
        io::stdout(),
        &ReplyMsg {
            id,
            result: result.map_err(Into::into),
        },
    );
}
