//! The paths of a monitor: their names, devices, groups, and the worker of each.
//!
//! A group belongs to one worker, which compares its paths. A device belongs to one path: adding it
//! a second time is refused. When a name was looked up again, the registry decides whether the path
//! follows it to another device. Whoever changes the registry also updates the [`PathInfo`] in the
//! status cell; workers and readers take it from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::device::{
    Comparison, Device, DeviceId, DeviceInfo, Identity, OpenProblem, display_name,
};
use crate::status::{GroupCell, GroupStatus, PathId, PathInfo, StatusCell};

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

/// What to do with a path whose name was opened again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NameDecision {
    /// Read it through the newly opened device.
    Follow,
    /// Keep the device: the name leads elsewhere. Has a description, unless it was given before.
    KeepDevice(Option<String>),
    /// Nothing: the path is not watched any more.
    NotWatched,
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
        self.paths.insert(id, entry);
        Ok((worker, Arc::clone(group)))
    }

    /// Removes a path. Returns its worker and its status cell.
    pub(crate) fn remove(&mut self, id: PathId) -> Option<(usize, Arc<StatusCell>)> {
        let entry = self.paths.remove(&id)?;
        let info = entry.cell.info();
        self.devices.remove(&info.device());
        self.elsewhere.remove(&id);
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

    /// Decides whether a path is read through the device that its name was opened as. It is, unless
    /// the device is other storage than before, or another path watches it.
    pub(crate) fn decide_reopened(&mut self, id: PathId, device: &Device) -> NameDecision {
        let Some(entry) = self.paths.get_mut(&id) else {
            return NameDecision::NotWatched;
        };
        let before = entry.cell.info();
        let now = device.identity.device;
        let other = self.devices.get(&now).filter(|by| **by != id).copied();
        if let Some(other) = other {
            let name = self.paths.get(&other).map(|entry| entry.cell.info());
            let name = name.map_or_else(String::new, |info| display_name(info.name()).to_string());
            let target = format!("now leads to {now}, which is watched as {name}");
            return self.keep_device(id, &target);
        }
        let is_same = entry.identity().compare(&device.identity) == Comparison::Same;
        let (storage, storage_before) = (device.storage.as_deref(), entry.storage.as_deref());
        if storage_before != storage && !is_same {
            let (now, was) = (wwid_text(storage), wwid_text(storage_before));
            let target = format!("now leads to other storage ({now}, was {was})");
            return self.keep_device(id, &target);
        }
        entry.generation = device.identity.generation;
        let is_known = before.device() == now && before.leads_elsewhere().is_none();
        if !is_known || *before.details() != device.details {
            let info = PathInfo::new(before.name().to_owned(), now, before.group());
            let info = info.with_details(device.details.clone());
            entry.cell.set_info(Arc::new(info));
        }
        self.elsewhere.remove(&id);
        self.devices.remove(&before.device());
        self.devices.insert(now, id);
        NameDecision::Follow
    }

    /// Keeps the device of a path whose name leads elsewhere, and records that.
    fn keep_device(&mut self, id: PathId, target: &str) -> NameDecision {
        let Some(entry) = self.paths.get(&id) else {
            return NameDecision::NotWatched;
        };
        let description =
            format!("{target}; to watch that instead, remove and add the path, or reload");
        let info = entry.cell.info();
        if info.leads_elsewhere() == Some(&description) {
            return NameDecision::KeepDevice(None);
        }
        entry
            .cell
            .set_info(Arc::new(info.with_elsewhere(Some(description.clone()))));
        self.elsewhere.insert(id);
        NameDecision::KeepDevice(Some(description))
    }

    /// The name of a path leads to the watched device, perhaps again.
    pub(crate) fn clear_elsewhere(&mut self, id: PathId) {
        if self.elsewhere.remove(&id)
            && let Some(entry) = self.paths.get(&id)
        {
            entry
                .cell
                .set_info(Arc::new(entry.cell.info().with_elsewhere(None)));
        }
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

fn wwid_text(storage: Option<&str>) -> String {
    match storage {
        Some(wwid) => format!("WWID {wwid}"),
        None => "no WWID".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Geometry;
    use crate::health::NoProbe;

    fn device(minor: u32, generation: u64, storage: Option<&str>) -> Device {
        Device {
            identity: Identity::new(DeviceId::Block { major: 8, minor }, Some(generation)),
            file: std::fs::File::open("/dev/null").expect("a file").into(),
            geometry: Geometry::new(512, 8),
            probe: Box::new(NoProbe),
            details: DeviceInfo::default(),
            storage: storage.map(str::to_owned),
            stacked: false,
            submission: pathpulse_kernel_compat::Submission::Prompt,
        }
    }

    fn with(paths: &[(PathId, &str, &Device)]) -> Registry {
        let mut registry = Registry::new(1);
        for (id, name, device) in paths {
            let info = PathInfo::new(name.into(), device.identity.device, None);
            let cell = Arc::new(StatusCell::new(Arc::new(info)));
            let what = (device.storage.clone(), device.identity);
            registry.insert(*id, &cell, what, 0).expect("it enters");
        }
        registry
    }

    #[test]
    fn a_path_follows_its_name_to_the_same_storage_only() {
        let id = PathId::allocate(1);
        let mut registry = with(&[(id, "/dev/slot", &device(0, 1, Some("3600a")))]);
        let info = |registry: &Registry| registry.cell(id).expect("there").info();
        // Another disk with the same number counts like another number.
        for (minor, generation) in [(0, 2), (16, 3)] {
            let other = device(minor, generation, Some("3600b"));
            let NameDecision::KeepDevice(Some(description)) = registry.decide_reopened(id, &other)
            else {
                panic!("other storage was accepted");
            };
            if minor == 0 {
                assert!(
                    description.contains("other storage (WWID 3600b, was WWID 3600a)"),
                    "{description}"
                );
                assert_eq!(
                    registry.decide_reopened(id, &other),
                    NameDecision::KeepDevice(None),
                    "reported once"
                );
                assert_eq!(info(&registry).leads_elsewhere(), Some(&*description));
                registry.clear_elsewhere(id);
            }
        }
        assert_eq!(registry.paths_elsewhere().collect::<Vec<_>>(), [id]);
        assert_eq!(
            registry.decide_reopened(id, &device(32, 4, Some("3600a"))),
            NameDecision::Follow
        );
        assert_eq!(
            (
                info(&registry).leads_elsewhere(),
                registry.paths_elsewhere().count()
            ),
            (None, 0)
        );
        assert_eq!(
            registry.find_device(DeviceId::Block {
                major: 8,
                minor: 32
            }),
            Some(id)
        );
        assert_eq!(
            registry.find_device(DeviceId::Block { major: 8, minor: 0 }),
            None
        );
        // The same disk may have become known better.
        assert_eq!(
            registry.decide_reopened(id, &device(32, 4, None)),
            NameDecision::Follow
        );
    }

    #[test]
    fn a_path_does_not_follow_its_name_to_a_watched_device() {
        let (one, other) = (PathId::allocate(1), PathId::allocate(1));
        let devices = [device(0, 1, None), device(16, 2, None)];
        let mut registry = with(&[(one, "/one", &devices[0]), (other, "/other", &devices[1])]);
        let NameDecision::KeepDevice(Some(description)) =
            registry.decide_reopened(one, &devices[1])
        else {
            panic!("the device was accepted");
        };
        assert!(
            description.contains("now leads to 8:16, which is watched as /other"),
            "{description}"
        );
        registry.remove(other);
        assert_eq!(
            registry.decide_reopened(one, &devices[1]),
            NameDecision::Follow
        );
        registry.remove(one);
        assert_eq!(
            registry.decide_reopened(one, &devices[1]),
            NameDecision::NotWatched
        );
    }
}
