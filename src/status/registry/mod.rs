//! The paths of a monitor: their names, devices, groups, and the worker of each.
//!
//! A group belongs to one worker, which compares its paths. A device belongs to one path: adding it
//! a second time is refused. `names.rs` decides whether a path follows its name to another device.
//! Each change is also written to the [`PathInfo`] in the status cell, from which workers and
//! readers take it.

mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::device::{DeviceId, DeviceInfo, Identity, OpenProblem};
use crate::status::{GroupCell, GroupStatus, PathId, PathInfo, StatusCell};
pub(crate) use names::NameDecision;

struct Entry {
    cell: Arc<StatusCell>,
    /// The storage of the device when the path was added.
    storage: Option<Box<str>>,
    /// [`Identity::generation`] of the device that is read.
    generation: Option<u64>,
    worker: u32,
}

impl Entry {
    fn identity(&self) -> Identity {
        Identity::new(self.cell.info().device(), self.generation)
    }
}

/// A group. One worker has all its paths and compares them.
struct Group {
    cell: Arc<GroupCell>,
    worker: usize,
    members: usize,
}

/// The paths of a monitor, as all share them who open files. A worker itself waits for no lock.
#[derive(Clone)]
pub(crate) struct SharedRegistry(Arc<RwLock<Registry>>);

impl SharedRegistry {
    /// An empty registry.
    pub(crate) fn new(workers: usize) -> SharedRegistry {
        SharedRegistry(Arc::new(RwLock::new(Registry::new(workers))))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The paths of a monitor.
pub(crate) struct Registry {
    paths: BTreeMap<PathId, Entry>,
    devices: HashMap<DeviceId, PathId>,
    /// Paths whose names lead elsewhere.
    elsewhere: BTreeSet<PathId>,
    groups: BTreeMap<String, Group>,
    /// For each worker, the counters of its paths without a group.
    ungrouped: Vec<Arc<GroupCell>>,
    closed: bool,
}

impl Registry {
    /// An empty registry.
    pub(crate) fn new(workers: usize) -> Registry {
        Registry {
            paths: BTreeMap::new(),
            devices: HashMap::new(),
            elsewhere: BTreeSet::new(),
            groups: BTreeMap::new(),
            ungrouped: (0..workers).map(|_| Arc::default()).collect(),
            closed: false,
        }
    }

    /// Refuses new paths from now on.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Adds a path. Returns its worker and the counters of its group. The worker is `any_worker`,
    /// unless another worker has the group already.
    pub(crate) fn insert(
        &mut self,
        id: PathId,
        cell: &Arc<StatusCell>,
        (storage, identity): (Option<String>, Identity),
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
            None => (any_worker, &self.ungrouped[any_worker]),
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
        let entry = Entry {
            cell: Arc::clone(cell),
            storage: storage.map(String::into_boxed_str),
            generation: identity.generation,
            worker: u32::try_from(worker).unwrap_or(u32::MAX),
        };
        let group = Arc::clone(group);
        self.paths.insert(id, entry);
        self.assert_one_path_per_device();
        Ok((worker, group))
    }

    /// The worker of a group, if the group has paths.
    pub(crate) fn worker_of_group(&self, name: &str) -> Option<usize> {
        self.groups.get(name).map(|group| group.worker)
    }

    /// Replaces the counters of a group, or of the paths of a worker without one.
    pub(crate) fn set_group_cell(
        &mut self,
        name: Option<&str>,
        worker: usize,
        cell: Option<Arc<GroupCell>>,
    ) {
        let place = match name {
            Some(name) => self.groups.get_mut(name).map(|group| &mut group.cell),
            None => self.ungrouped.get_mut(worker),
        };
        if let (Some(place), Some(cell)) = (place, cell) {
            *place = cell;
        }
    }

    /// Another reader writes the status of a path from now on.
    pub(crate) fn replace_cell(&mut self, id: PathId, cell: Arc<StatusCell>) {
        if let Some(entry) = self.paths.get_mut(&id) {
            entry.cell = cell;
        }
    }

    /// Removes a path. Returns its worker and its status cell.
    pub(crate) fn remove(&mut self, id: PathId) -> Option<(usize, Arc<StatusCell>)> {
        let entry = self.paths.remove(&id)?;
        let info = entry.cell.info();
        self.devices.remove(&info.device());
        self.elsewhere.remove(&id);
        self.assert_one_path_per_device();
        if let Some(name) = info.group()
            && let Some(group) = self.groups.get_mut(name)
        {
            group.members -= 1;
            if group.members == 0 {
                self.groups.remove(name);
            }
        }
        Some((entry.worker as usize, entry.cell))
    }

    /// Replaces the details of a path's device.
    pub(crate) fn set_details(&self, id: PathId, details: DeviceInfo) {
        if let Some(entry) = self.paths.get(&id) {
            let info = PathInfo::clone(&entry.cell.info());
            let info = info.with_details(details);
            entry.cell.set_info(Arc::new(info));
        }
    }

    /// Renames a path. Returns `false` if it is not watched.
    pub(crate) fn rename(&mut self, id: PathId, name: &Path) -> bool {
        let Some(entry) = self.paths.get(&id) else {
            return false;
        };
        let info = entry.cell.info().with_name(name);
        entry.cell.set_info(Arc::new(info));
        true
    }

    pub(crate) fn leads_elsewhere(&self, id: PathId) -> bool {
        self.elsewhere.contains(&id)
    }

    /// All paths with their workers and names.
    pub(crate) fn names(&self) -> Vec<(PathId, usize, PathBuf)> {
        let all = self.paths.iter();
        let names = all.map(|(id, entry)| {
            (
                *id,
                entry.worker as usize,
                entry.cell.info().name().to_owned(),
            )
        });
        names.collect()
    }

    /// Paths whose names lead elsewhere.
    pub(crate) fn paths_elsewhere(&self) -> impl Iterator<Item = PathId> {
        self.elsewhere.iter().copied()
    }

    /// Identity of the device that is open for a path.
    pub(crate) fn identity(&self, id: PathId) -> Option<Identity> {
        self.paths.get(&id).map(Entry::identity)
    }

    /// The path that watches this device.
    pub(crate) fn find_device(&self, device: DeviceId) -> Option<PathId> {
        self.devices.get(&device).copied()
    }

    fn assert_one_path_per_device(&self) {
        debug_assert_eq!(
            self.devices.len(),
            self.paths.len(),
            "each path has a device of its own"
        );
    }

    /// The worker that has this path.
    pub(crate) fn worker_of(&self, id: PathId) -> Option<usize> {
        self.paths.get(&id).map(|entry| entry.worker as usize)
    }

    /// The status cell of this path.
    pub(crate) fn cell(&self, id: PathId) -> Option<&StatusCell> {
        self.paths.get(&id).map(|entry| &*entry.cell)
    }

    /// The status cells of all paths, in the order in which the paths were added.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (PathId, &StatusCell)> {
        self.paths.iter().map(|(id, entry)| (*id, &*entry.cell))
    }

    /// Status of all groups. The last entry stands for all paths without a group.
    pub(crate) fn groups(&self) -> Vec<GroupStatus> {
        let all = self.groups.values();
        let mut groups: Vec<GroupStatus> = all
            .map(|group| group.cell.snapshot(group.members))
            .collect();
        let grouped: usize = groups.iter().map(|group| group.paths).sum();
        let ungrouped = self.ungrouped.iter().map(|cell| cell.snapshot(0));
        let together = ungrouped.reduce(|all, one| GroupStatus {
            latencies: all.latencies.merged(&one.latencies),
            ..all
        });
        groups.extend(together.map(|ungrouped| GroupStatus {
            paths: self.paths.len() - grouped,
            ..ungrouped
        }));
        groups
    }
}
