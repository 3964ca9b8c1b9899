//! Decides whether a path follows its name, which was opened again and may lead to another device.

use std::sync::Arc;

use super::Registry;
use crate::device::{Comparison, OpenedDevice, display_name};
use crate::status::{PathId, PathInfo};

/// What to do with a path whose name was opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameDecision {
    /// Read it through the newly opened device.
    Follow,
    /// Keep the device: the name leads elsewhere. Has a description, unless it was given before.
    KeepDevice(Option<String>),
    /// Nothing: the path is not watched any more.
    NotWatched,
}

impl Registry {
    /// Decides whether a path is read through the device that its name was opened as. It is, unless
    /// the device is other storage than before, or another path watches it.
    pub(crate) fn decide_reopened(&mut self, id: PathId, device: &OpenedDevice) -> NameDecision {
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
        self.assert_one_path_per_device();
        NameDecision::Follow
    }

    /// Records that somebody else decided to keep the device of a path.
    pub(crate) fn set_elsewhere(&mut self, id: PathId) {
        if self.paths.contains_key(&id) {
            self.elsewhere.insert(id);
        }
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
    use crate::device::{Device, DeviceId, DeviceInfo, Geometry, Identity};
    use crate::health::NoProbe;
    use crate::status::StatusCell;

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
            let NameDecision::KeepDevice(Some(description)) =
                registry.decide_reopened(id, &other.opened())
            else {
                panic!("other storage was accepted");
            };
            if minor == 0 {
                assert!(
                    description.contains("other storage (WWID 3600b, was WWID 3600a)"),
                    "{description}"
                );
                assert_eq!(
                    registry.decide_reopened(id, &other.opened()),
                    NameDecision::KeepDevice(None),
                    "reported once"
                );
                assert_eq!(info(&registry).leads_elsewhere(), Some(&*description));
                registry.clear_elsewhere(id);
            }
        }
        assert_eq!(registry.paths_elsewhere().collect::<Vec<_>>(), [id]);
        assert_eq!(
            registry.decide_reopened(id, &device(32, 4, Some("3600a")).opened()),
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
            registry.decide_reopened(id, &device(32, 4, None).opened()),
            NameDecision::Follow
        );
    }

    #[test]
    fn a_path_does_not_follow_its_name_to_a_watched_device() {
        let (one, other) = (PathId::allocate(1), PathId::allocate(1));
        let devices = [device(0, 1, None), device(16, 2, None)];
        let mut registry = with(&[(one, "/one", &devices[0]), (other, "/other", &devices[1])]);
        let NameDecision::KeepDevice(Some(description)) =
            registry.decide_reopened(one, &devices[1].opened())
        else {
            panic!("the device was accepted");
        };
        assert!(
            description.contains("now leads to 8:16, which is watched as /other"),
            "{description}"
        );
        registry.remove(other);
        assert_eq!(
            registry.decide_reopened(one, &devices[1].opened()),
            NameDecision::Follow
        );
        registry.remove(one);
        assert_eq!(
            registry.decide_reopened(one, &devices[1].opened()),
            NameDecision::NotWatched
        );
    }
}
