//! Who watches what: the paths of a monitor, their groups, and which worker has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::device::{Device, DeviceId, OpenProblem};
use crate::group::{GroupCell, GroupStatus};
use crate::path::{PathId, PathInfo};
use crate::status::StatusCell;

struct Entry {
    cell: Arc<StatusCell>,
    worker: usize,
    /// What its device led to when it was added.
    storage: Option<String>,
}

/// All paths of a group are with the same worker, which judges them together.
struct Group {
    cell: Arc<GroupCell>,
    worker: usize,
    members: usize,
}

/// The paths of a monitor.
pub(crate) struct Registry {
    paths: BTreeMap<PathId, Entry>,
    devices: HashMap<DeviceId, PathId>,
    groups: BTreeMap<String, Group>,
    /// For each worker, what it counts for its paths that are in no group.
    alone: Vec<Arc<GroupCell>>,
    closed: bool,
}

impl Registry {
    /// Without any path.
    pub(crate) fn new(workers: usize) -> Registry {
        Registry {
            paths: BTreeMap::new(),
            devices: HashMap::new(),
            groups: BTreeMap::new(),
            alone: (0..workers).map(|_| Arc::default()).collect(),
            closed: false,
        }
    }

    /// From now on nothing enters.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes a path in, and says which worker is to have it, and its group. It is `any_worker`, unless
    /// another one has its group.
    pub(crate) fn enter(
        &mut self,
        id: PathId,
        cell: &Arc<StatusCell>,
        storage: Option<String>,
        any_worker: usize,
    ) -> Result<(usize, Arc<GroupCell>), OpenProblem> {
        if self.closed {
            return Err(OpenProblem::Closed);
        }
        let info = cell.info();
        if let Some(first) = self.devices.get(&info.device()) {
            let first = self.paths[first].cell.info().name().to_owned();
            return Err(OpenProblem::Twice { first });
        }
        self.devices.insert(info.device(), id);
        let (worker, group) = match info.group() {
            None => (any_worker, &self.alone[any_worker]),
            Some(name) => {
                let group = self.groups.entry(name.to_owned()).or_insert_with(|| Group {
                    cell: Arc::new(GroupCell::new(name)),
                    worker: any_worker,
                    members: 0,
                });
                group.members += 1;
                (group.worker, &group.cell)
            }
        };
        let cell = Arc::clone(cell);
        let entry = Entry {
            cell,
            worker,
            storage,
        };
        self.paths.insert(id, entry);
        Ok((worker, Arc::clone(group)))
    }

    /// Strikes a path out, and says which worker has it, and where its status is.
    pub(crate) fn leave(&mut self, id: PathId) -> Option<(usize, Arc<StatusCell>)> {
        let entry = self.paths.remove(&id)?;
        let info = entry.cell.info();
        self.devices.remove(&info.device());
        if let Some(name) = info.group()
            && let Some(group) = self.groups.get_mut(name)
        {
            group.members -= 1;
            if group.members == 0 {
                self.groups.remove(name);
            }
        }
        Some((entry.worker, entry.cell))
    }

    /// The name of a path was opened anew: whether it is to be read through that from now on. It is, unless
    /// it is other storage than before, or a device that another path leads to.
    pub(crate) fn now_leads_to(&mut self, id: PathId, device: &Device) -> bool {
        let Some(entry) = self.paths.get(&id) else {
            return false;
        };
        let before = entry.cell.info();
        let other_storage = entry.storage != device.storage;
        let taken = self.devices.get(&device.id).is_some_and(|by| *by != id);
        if other_storage || taken {
            return false;
        }
        self.devices.remove(&before.device());
        self.devices.insert(device.id, id);
        let info = PathInfo::new(before.name().to_owned(), device.id, before.group());
        entry.cell.set_info(Arc::new(info));
        true
    }

    /// The path that leads to this device.
    pub(crate) fn leads_to(&self, device: DeviceId) -> Option<PathId> {
        self.devices.get(&device).copied()
    }

    /// The worker that has this path.
    pub(crate) fn worker_of(&self, id: PathId) -> Option<usize> {
        self.paths.get(&id).map(|entry| entry.worker)
    }

    /// The status of this path.
    pub(crate) fn cell(&self, id: PathId) -> Option<&StatusCell> {
        self.paths.get(&id).map(|entry| &*entry.cell)
    }

    /// The status of all paths, in the order in which they entered.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (PathId, &StatusCell)> {
        self.paths.iter().map(|(id, entry)| (*id, &*entry.cell))
    }

    /// The status of all groups; what is in none comes last, as one.
    pub(crate) fn groups(&self) -> Vec<GroupStatus> {
        let all = self.groups.values();
        let mut groups: Vec<GroupStatus> = all
            .map(|group| group.cell.snapshot(group.members))
            .collect();
        let grouped: usize = groups.iter().map(|group| group.paths).sum();
        let alone = self.alone.iter().map(|cell| cell.snapshot(0));
        let together = alone.reduce(|all, one| GroupStatus {
            latencies: all.latencies.and(&one.latencies),
            ..all
        });
        groups.extend(together.map(|alone| GroupStatus {
            paths: self.paths.len() - grouped,
            ..alone
        }));
        groups
    }
}
