//! A worker, its simulated disks, and what can happen to them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::{channel, sync_channel};

use fastrand::Rng;
use pathpulse_kernel_compat::{Audit, Scripted, Submission};

use super::disk::{BLOCK, Disk, DiskProbe, Way};
use super::*;
use crate::device::{Device, DeviceId, DeviceInfo, Geometry, Identity};
use crate::health::Rules;
use crate::settings::{Place, Region, Sleeping};
use crate::status::{GroupCell, PathInfo, StatusCell};
use crate::worker::message::Reopened;

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) worker: Worker,
    pub(super) audit: Rc<RefCell<Audit>>,
    /// Put in here, it is added to the clock while the disks stand still.
    pub(super) jump: Rc<Cell<Duration>>,
    /// By the token of their reads; `u64::MAX` is the one that is being added.
    disks: Rc<RefCell<HashMap<u64, Arc<Disk>>>>,
    pub(super) cells: HashMap<PathId, (Arc<StatusCell>, Arc<Disk>)>,
    groups: HashMap<&'static str, Arc<GroupCell>>,
    next: u64,
}

/// Settings that differ in all that matters to a worker.
pub(super) fn any_settings(rng: &mut Rng) -> Settings {
    let span =
        |rng: &mut Rng| Duration::from_millis(*rng.choice(&[250, 1000, 2000]).expect("some"));
    Settings {
        interval: span(rng),
        timeout: span(rng).max(Duration::from_millis(500)),
        backoff_max: Duration::from_secs(rng.u64(0..30)),
        rules: Rules {
            fall: rng.u32(1..3),
            rise: rng.u32(1..4),
            marginal_errors_per_mille: *rng.choice(&[50, 100, 1000]).expect("some"),
            flaps: rng.u32(0..4),
            recovery: Duration::from_secs(rng.u64(1..10)),
            ..Rules::default()
        },
        region: Region {
            place: *rng
                .choice(&[Place::First, Place::Last, Place::Rotating])
                .expect("some"),
            len_bytes: rng.u32(0..3) * 700,
        },
        sleeping: *rng
            .choice(&[Sleeping::Read, Sleeping::Leave])
            .expect("some"),
    }
}

fn device(number: u64, disk: &Arc<Disk>) -> Device {
    Device {
        identity: Identity::new(
            DeviceId::Block {
                major: 0,
                minor: number as u32,
            },
            None,
        ),
        file: std::fs::File::open("/dev/null").expect("a file").into(),
        geometry: Geometry::new(BLOCK, 1000),
        probe: Box::new(DiskProbe(Arc::clone(disk))),
        details: DeviceInfo::default(),
        storage: None,
        stacked: false,
        submission: Submission::Prompt,
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let disks: Rc<RefCell<HashMap<u64, Arc<Disk>>>> = Rc::default();
        let by_token = Rc::clone(&disks);
        let backend = Scripted::new(seed, move |op: &Op, now| {
            let disks = by_token.borrow();
            // The worker is in the middle of adding the disk when it first reads it.
            let disk = disks.get(&op.token).or_else(|| disks.get(&u64::MAX));
            // What a read does is a matter of its path and time, not of what was read before it.
            let mut luck = Rng::with_seed(seed ^ op.token.rotate_left(32) ^ now.as_nanos());
            disk.expect("known").way().answer(&mut luck)
        })
        .expect("a descriptor for the waker");
        let (audit, jump) = (backend.audit(), backend.jump());
        let (_, commands) = sync_channel(1);
        World {
            seed,
            rng: Rng::with_seed(seed),
            worker: Worker::new(Box::new(backend), Settings::default(), commands, None),
            audit,
            jump,
            disks,
            cells: HashMap::new(),
            groups: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn add(
        &mut self,
        way: Way,
        group: Option<&'static str>,
        settings: Settings,
    ) -> PathId {
        self.next += 1;
        let id = PathId::from_number(self.next);
        let disk = Disk::new(way);
        let device = device(self.next, &disk);
        let info = PathInfo::new(
            format!("disk{}", self.next).into(),
            device.identity.device,
            group,
        );
        let cell = Arc::new(StatusCell::new(Arc::new(info)));
        cell.expect_verdict(self.worker.now(), settings.timeout);
        let group = match group {
            None => Arc::default(),
            Some(name) => {
                let group = self.groups.entry(name);
                Arc::clone(group.or_insert_with(|| Arc::new(GroupCell::new(name))))
            }
        };
        self.disks.borrow_mut().insert(u64::MAX, Arc::clone(&disk));
        self.worker.handle(WorkerMsg::Add(Box::new(NewPath {
            id,
            device,
            cell: Arc::clone(&cell),
            settings,
            group,
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

    pub(super) fn add_any(&mut self) -> PathId {
        let way = Way::any(&mut self.rng);
        let group = *self
            .rng
            .choice(&[None, Some("a"), Some("a"), Some("b")])
            .expect("some");
        let settings = any_settings(&mut self.rng);
        self.add(way, group, settings)
    }

    pub(super) fn remove(&mut self, path: PathId) {
        self.worker.handle(WorkerMsg::Remove(path, channel().0));
        self.cells.remove(&path);
        self.worker
            .checker
            .recorder
            .verdicts
            .retain(|verdict| verdict.0 != path);
    }

    /// All paths, in order.
    pub(super) fn ids(&self) -> Vec<PathId> {
        let mut ids: Vec<PathId> = self.cells.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn watched(&self, id: PathId) -> &PathRuntime {
        self.worker
            .paths
            .get(self.worker.keys[&id])
            .expect("watched")
    }

    /// Something happens, or nothing.
    fn meddle(&mut self) {
        let ids = self.ids();
        let Some(&path) = self.rng.choice(&ids) else {
            self.add_any();
            return;
        };
        match self.rng.u32(0..60) {
            0..15 => {
                let way = Way::any(&mut self.rng);
                self.cells[&path].1.set(way);
            }
            15 => drop(self.add_any()),
            16 => self.remove(path),
            17 => self.worker.handle(WorkerMsg::Pause(path, channel().0)),
            18 | 19 => self.resume(path),
            20 => self.worker.handle(WorkerMsg::CheckNow(path)),
            21 => self.reload(),
            22 | 23 => self.reopen(path),
            _ => {}
        }
    }

    /// A path is resumed, and its name opened anew if it was paused.
    fn resume(&mut self, path: PathId) {
        let is_paused = self.watched(path).health.state() == State::Paused;
        self.worker.handle(WorkerMsg::Resume(path));
        if is_paused {
            self.reopen(path);
        }
    }

    /// The name of a path is opened anew.
    fn reopen(&mut self, id: PathId) {
        let device = device(id.number(), &self.cells[&id].1);
        self.worker
            .handle(WorkerMsg::Reopened(id, Reopened::Device(Box::new(device))));
    }

    /// A new configuration: some paths go, some come, some are watched in another way, and the rest
    /// goes on as it was.
    fn reload(&mut self) {
        for id in self.ids() {
            let before = self.watched(id);
            let (health, checks_begun) = (format!("{:?}", before.health), before.checks_begun);
            let (due, settings) = (before.due, *before.settings);
            let settings = match self.rng.u32(0..10) {
                0 => {
                    self.remove(id);
                    continue;
                }
                1..4 => any_settings(&mut self.rng),
                _ => settings,
            };
            let before = &self.watched(id).settings;
            let same =
                (settings.interval, settings.backoff_max) == (before.interval, before.backoff_max);
            self.worker
                .handle(WorkerMsg::Change(id, Box::new(settings)));
            let after = self.watched(id);
            assert_eq!(health, format!("{:?}", after.health), "seed {}", self.seed);
            assert_eq!(checks_begun, after.checks_begun, "seed {}", self.seed);
            assert!(after.due <= due, "seed {}", self.seed);
            assert!(!same || after.due == due, "seed {}", self.seed);
        }
        for _ in 0..self.rng.u32(0..2) {
            self.add_any();
        }
    }

    pub(super) fn run(&mut self, span: Duration, meddle: bool) {
        let end = self.worker.now() + span;
        // Without any path nothing would ever happen, and the clock would stand.
        while self.worker.now() < end && (meddle || !self.cells.is_empty()) {
            if meddle {
                self.meddle();
            }
            self.worker.tick();
            self.assert_groups();
        }
    }

    /// Makes all disks answer: everything has to come back, but what hangs for ever.
    pub(super) fn heal(&mut self) {
        for id in self.ids() {
            self.cells[&id].1.set(Way::Answers);
            self.resume(id);
        }
    }
}
