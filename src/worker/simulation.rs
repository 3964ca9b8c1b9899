//! Seeded simulations of a whole worker over a scripted backend, on a virtual clock.
//!
//! Every seed makes up a handful of paths that change their ways at random (answer, delay, fail,
//! hang, saturate, end late, be refused, find no kernel thread, vanish from sysfs), and commands
//! that add, remove, pause and hurry them. What must hold whatever happens is asserted after every
//! run, and a seed that breaks it is named: `PATHPULSE_SEED=n` runs that one alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use pathpulse_kernel_compat::{Answer, Audit, Errno, Reject, Scripted, Stage};

use super::*;
use crate::check::{Counters, VerdictKind};
use crate::device::{Device, DeviceId, Geometry};
use crate::path::PathInfo;
use crate::status::StatusCell;
use crate::sysfs::Evidence;

const SEEDS: u64 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(2);
const BLOCK: u32 = 512;

/// What a simulated disk does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Answers,
    Slow,
    Fails,
    Short,
    Hangs,
    /// Ends its reads after their deadline.
    Late,
    /// All tags taken; the flag says whether other I/O completes.
    Full(bool),
    Refused(Reject),
    Starved,
    Offline,
    Standby,
}

/// The truth about one disk, shared by the script and by the evidence.
#[derive(Debug)]
struct Disk {
    way: Mutex<Way>,
    completed: AtomicU64,
}

struct DiskEvidence(Arc<Disk>);

impl Evidence for DiskEvidence {
    fn link(&self) -> LinkState {
        match *self.0.way.lock().expect("not poisoned") {
            Way::Offline => LinkState::Offline,
            Way::Standby => LinkState::Standby,
            _ => LinkState::Running,
        }
    }

    fn counters(&self) -> Option<Counters> {
        if let Way::Full(true) = *self.0.way.lock().expect("not poisoned") {
            self.0.completed.fetch_add(1, Relaxed);
        }
        Some(Counters {
            completed: self.0.completed.load(Relaxed),
            in_flight: 128,
        })
    }
}

fn answer(way: Way, rng: &mut Rng) -> Answer {
    let quick = Duration::from_micros(rng.u64(20..500));
    let stage = if rng.bool() {
        Stage::Device
    } else {
        Stage::Submission
    };
    let good = Ok(BLOCK);
    match way {
        Way::Answers | Way::Offline | Way::Standby => Answer::After(quick, good, stage),
        Way::Slow => Answer::After(Duration::from_millis(rng.u64(1..1900)), good, stage),
        Way::Fails => Answer::After(quick, Err(Errno::EIO), stage),
        Way::Short => Answer::After(quick, Ok(rng.u32(0..BLOCK)), stage),
        Way::Hangs => Answer::Never(stage),
        Way::Late => {
            let late = Duration::from_millis(rng.u64(2001..9000));
            let result = if rng.bool() { good } else { Err(Errno::EIO) };
            Answer::After(late, result, stage)
        }
        Way::Full(_) => Answer::After(quick, Err(Errno::EAGAIN), stage),
        Way::Refused(why) => Answer::Refuse(why),
        Way::Starved => Answer::NotStarted,
    }
}

fn any_way(rng: &mut Rng) -> Way {
    match rng.u32(0..16) {
        0..4 => Way::Answers,
        4 => Way::Slow,
        5 => Way::Fails,
        6 => Way::Short,
        7 => Way::Hangs,
        8 | 9 => Way::Late,
        10 => Way::Full(true),
        11 => Way::Full(false),
        12 => Way::Refused(if rng.bool() {
            Reject::Full
        } else {
            Reject::NoMemory
        }),
        13 => Way::Starved,
        14 => Way::Offline,
        _ => Way::Standby,
    }
}

/// What a simulation sees of a worker beyond what all see, and does to it.
#[derive(Default)]
pub(crate) struct Probe {
    pub(super) verdicts: Vec<(PathId, Mono, Verdict, State)>,
    pub(super) events: Vec<(PathId, Event)>,
    /// Puts the completions of each turn in another order.
    pub(super) shuffling: Option<Rng>,
}

impl Probe {
    pub(super) fn shuffle(&mut self, completions: &mut [Completion]) {
        if let Some(rng) = &mut self.shuffling {
            rng.shuffle(completions);
        }
    }
}

impl Worker {
    pub(super) fn note(&mut self, key: Key, verdict: Verdict, now: Mono) {
        if let Some(path) = self.paths.get(key) {
            let verdict = (path.id, now, verdict, path.health.state());
            self.probe.verdicts.push(verdict);
        }
    }
}

/// A worker, its simulated disks, and what is known of them.
struct World {
    seed: u64,
    rng: Rng,
    worker: Worker,
    audit: Rc<RefCell<Audit>>,
    /// By the offset that a disk is read at in the script: see `add`.
    disks: Rc<RefCell<HashMap<u64, Arc<Disk>>>>,
    cells: HashMap<PathId, (Arc<StatusCell>, Arc<Disk>)>,
    next: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let disks: Rc<RefCell<HashMap<u64, Arc<Disk>>>> = Rc::default();
        let by_token = Rc::clone(&disks);
        let mut script_rng = Rng::with_seed(seed ^ 0x5eed);
        let backend = Scripted::new(seed, move |op: &Op, _| {
            let disks = by_token.borrow();
            // The worker is in the middle of adding the disk when it first reads it.
            let disk = disks.get(&op.token).or_else(|| disks.get(&u64::MAX));
            let way = *disk.expect("known").way.lock().expect("not poisoned");
            answer(way, &mut script_rng)
        })
        .expect("a descriptor for the waker");
        let audit = backend.audit();
        let (_, commands) = sync_channel(1);
        World {
            seed,
            rng: Rng::with_seed(seed),
            worker: Worker::new(Box::new(backend), Settings::default(), commands, None),
            audit,
            disks,
            cells: HashMap::new(),
            next: 0,
        }
    }

    fn add(&mut self, way: Way) -> PathId {
        self.next += 1;
        let id = PathId::from_number(self.next);
        let disk = Arc::new(Disk {
            way: Mutex::new(way),
            completed: AtomicU64::new(0),
        });
        let device = Device {
            id: DeviceId::Block {
                major: 0,
                minor: self.next as u32,
            },
            file: std::fs::File::open("/dev/null").expect("a file").into(),
            geometry: Geometry::new(BLOCK, 1000),
            evidence: Box::new(DiskEvidence(Arc::clone(&disk))),
            storage: None,
        };
        let info = PathInfo::new(format!("disk{}", self.next).into(), device.id, None);
        let cell = Arc::new(StatusCell::new(Arc::new(info)));
        self.disks.borrow_mut().insert(u64::MAX, Arc::clone(&disk));
        self.worker.obey(Command::Add(Box::new(NewPath {
            id,
            device,
            cell: Arc::clone(&cell),
            settings: Settings::default(),
            group: Arc::default(),
            once: None,
        })));
        let token = self.worker.keys[&id].to_bits();
        let mut disks = self.disks.borrow_mut();
        disks.remove(&u64::MAX);
        disks.insert(token, Arc::clone(&disk));
        drop(disks);
        self.cells.insert(id, (cell, disk));
        id
    }

    fn any_path(&mut self) -> Option<PathId> {
        let mut ids: Vec<PathId> = self.cells.keys().copied().collect();
        ids.sort_unstable();
        self.rng.choice(ids)
    }

    /// Something happens, or nothing.
    fn meddle(&mut self) {
        let Some(path) = self.any_path() else {
            self.add(Way::Answers);
            return;
        };
        match self.rng.u32(0..40) {
            0..10 => {
                let way = any_way(&mut self.rng);
                *self.cells[&path].1.way.lock().expect("not poisoned") = way;
            }
            10 => {
                let way = any_way(&mut self.rng);
                self.add(way);
            }
            11 => {
                self.worker.obey(Command::Remove(path));
                self.cells.remove(&path);
                self.worker
                    .probe
                    .verdicts
                    .retain(|verdict| verdict.0 != path);
            }
            12 => self.worker.obey(Command::Pause(path, true)),
            13 | 14 => self.worker.obey(Command::Pause(path, false)),
            15 => self.worker.obey(Command::CheckNow(path)),
            _ => {}
        }
    }

    fn run(&mut self, span: Duration, meddle: bool) {
        let end = self.worker.backend.now() + span;
        // Without any path nothing would ever happen, and the clock would stand.
        while self.worker.backend.now() < end && (meddle || !self.cells.is_empty()) {
            if meddle {
                self.meddle();
            }
            self.worker.turn();
        }
    }

    /// What must hold at any time.
    fn assert_invariants(&self) {
        let seed = self.seed;
        let audit = self.audit.borrow();
        assert!(audit.violations.is_empty(), "seed {seed}: {audit:?}");
        assert_eq!(self.worker.backend.stats().strays, 0, "seed {seed}");
        for (_, path) in self.worker.paths.iter() {
            let (cell, _) = &self.cells[&path.id];
            let status = cell.snapshot();
            let begun = u64::from(path.turn) - u64::from(path.check.is_some());
            let ended = status.checks.total();
            assert_eq!(begun, ended, "seed {seed}: one verdict for each check");
            assert_eq!(status.state, path.health.state(), "seed {seed}");
            assert_eq!(status.cause, path.health.cause(), "seed {seed}");
            assert!(
                path.check.is_none() || path.stuck.is_none(),
                "seed {seed}: a check besides a stuck read"
            );
        }
        let running = self
            .worker
            .paths
            .iter()
            .filter(|(_, path)| path.check.is_some());
        assert_eq!(running.count(), self.worker.running, "seed {seed}");
        for (_, _, verdict, state) in &self.worker.probe.verdicts {
            let bad = matches!(
                verdict.kind(),
                VerdictKind::Failed | VerdictKind::TimedOut | VerdictKind::Saturated
            );
            let paused = *state == State::Paused;
            assert!(!bad || *state == State::Down || paused, "seed {seed}");
        }
    }

    /// Makes all disks answer: everything has to come back, but what hangs for ever.
    fn heal(&mut self) {
        for (id, (_, disk)) in &self.cells {
            *disk.way.lock().expect("not poisoned") = Way::Answers;
            self.worker.obey(Command::Pause(*id, false));
        }
    }

    fn assert_healed(&self) {
        for (_, path) in self.worker.paths.iter() {
            let healed = matches!(path.health.state(), State::Up | State::Marginal);
            let hung = path.stuck.is_some() && path.health.state() == State::Down;
            assert!(
                healed || hung,
                "seed {}: {:?} is {:?}, {:?}",
                self.seed,
                path.id,
                path.health,
                path.stuck
            );
        }
    }
}

fn simulate(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..world.rng.u32(1..8) {
        let way = any_way(&mut world.rng);
        world.add(way);
    }
    world.run(Duration::from_secs(20), true);
    world.assert_invariants();
    world.heal();
    world.run(Duration::from_secs(20), false);
    world.assert_invariants();
    world.assert_healed();
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let seeds = match std::env::var("PATHPULSE_SEED") {
        Ok(seed) => vec![seed.parse().expect("PATHPULSE_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| simulate(seed));
        assert!(run.is_ok(), "failing seed: PATHPULSE_SEED={seed}");
    }
}

/// The verdict that each way has to lead to, when a disk keeps to it.
#[test]
fn every_way_leads_to_its_verdict_in_time() {
    let ways = [
        (Way::Answers, VerdictKind::Good, State::Up),
        (Way::Slow, VerdictKind::Good, State::Up),
        (Way::Fails, VerdictKind::Failed, State::Down),
        (Way::Short, VerdictKind::ShortRead, State::Down),
        (Way::Hangs, VerdictKind::TimedOut, State::Down),
        (Way::Late, VerdictKind::TimedOut, State::Down),
        (Way::Full(true), VerdictKind::Busy, State::Up),
        (Way::Full(false), VerdictKind::Saturated, State::Down),
        (
            Way::Refused(Reject::Full),
            VerdictKind::Unknown,
            State::Pending,
        ),
        (Way::Starved, VerdictKind::Unknown, State::Pending),
        (Way::Offline, VerdictKind::Offline, State::Down),
        (Way::Standby, VerdictKind::Standby, State::Standby),
    ];
    let mut world = World::new(1);
    let ids: Vec<PathId> = ways.iter().map(|(way, ..)| world.add(*way)).collect();
    world.run(Duration::from_secs(30), false);
    for (id, (way, kind, state)) in ids.iter().zip(ways) {
        let mine: Vec<_> = world
            .worker
            .probe
            .verdicts
            .iter()
            .filter(|v| v.0 == *id)
            .collect();
        assert!(!mine.is_empty(), "{way:?}");
        assert!(mine[0].1 <= Mono::ZERO + TIMEOUT, "{way:?}: {}", mine[0].1);
        for verdict in &mine {
            assert_eq!((verdict.2.kind(), verdict.3), (kind, state), "{way:?}");
        }
        let paced = matches!(way, Way::Answers | Way::Fails | Way::Offline | Way::Standby);
        // 15 intervals; those that hang or are slow for nearly an interval skip some.
        let expected = if paced { 14..=17 } else { 1..=17 };
        assert!(expected.contains(&mine.len()), "{way:?}: {}", mine.len());
        assert!(
            way != Way::Hangs || mine.len() == 1,
            "a stuck read stays alone"
        );
    }
}

#[test]
fn a_broken_backend_says_unknown_and_keeps_the_states() {
    let mut world = World::new(7);
    let id = world.add(Way::Answers);
    world.run(Duration::from_secs(5), false);
    world.worker.backend.shutdown(Mono::ZERO);
    world.run(Duration::from_secs(5), false);
    let last = world.worker.probe.verdicts.last().expect("some");
    let why = Why::Broken;
    assert_eq!(
        (last.0, last.2, last.3),
        (id, Verdict::Unknown { why }, State::Up)
    );
}
