//! Which paths we took out of their maps, across restarts of the daemon, and what is done next.
//!
//! A path is noted on the disk before it is taken out, and the note is removed after the path is
//! reinstated. So a crash between the two steps loses nothing: a path that is noted but in use is
//! removed from the log. A path that can't be noted stays in its map. A note names the boot that it
//! is from, because a map that is set up again begins with all of its paths.

use std::collections::{BTreeMap, BTreeSet};

use pathpulse::State;

use super::rules::{MapAction, MapPath, decide, paths_in_status};
use crate::daemon::events::FailedPaths;
use crate::daemon::process::boot_id;

/// Why a path that should be taken out stays in its map.
const NOT_NOTED: &str = "not sent yet: the state file has no note of it, without which no later daemon \
    reinstates it; trying again every second";

/// The number of a device.
pub(super) type Number = (u32, u32);

/// A multipath map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Map {
    /// Its identity; the number may change.
    pub(super) uuid: String,
    pub(super) number: Number,
}

/// device-mapper, or a model of it in tests.
pub(super) trait DeviceMapper {
    /// The multipath maps that a device is a path of.
    fn maps_above(&self, device: Number) -> Vec<Map>;
    /// The status of a map.
    fn status(&self, map: Number) -> Result<String, String>;
    /// Sends a message to a map.
    fn message(&self, map: Number, message: &str) -> Result<(), String>;
}

/// Notes that survive the daemon.
pub(super) trait FailedPathNotes {
    /// Writes a note after those before it, without waiting; returns whether there was room for it.
    fn keep(&mut self, failed: &FailedPaths) -> bool;
    /// Whether all notes are on the disk. Waits for a short time.
    fn are_on_disk(&mut self) -> bool;
}

/// The paths that we took out, and the notes about them.
pub(super) struct FailedPathLog<M, N> {
    mapper: M,
    notes: N,
    /// Paths that we took out.
    failed: BTreeSet<FailedPath>,
    /// Paths that are to be taken out.
    wanted: BTreeSet<FailedPath>,
    /// The notes, by the uuid of the map.
    noted: BTreeMap<String, BTreeSet<Number>>,
    boot: String,
}

/// The uuid of a map, and a path of it.
type FailedPath = (String, Number);
/// Actions to perform.
type Plan = Vec<(Map, Number, MapAction)>;

impl<M: DeviceMapper, N: FailedPathNotes> FailedPathLog<M, N> {
    pub(super) fn new(mapper: M, notes: N) -> FailedPathLog<M, N> {
        FailedPathLog {
            mapper,
            notes,
            failed: BTreeSet::new(),
            wanted: BTreeSet::new(),
            noted: BTreeMap::new(),
            boot: boot_id(),
        }
    }

    pub(super) fn notes(&mut self) -> &mut N {
        &mut self.notes
    }

    /// Adds the notes of earlier daemons.
    pub(super) fn restore(&mut self, notes: Vec<FailedPaths>) {
        for note in notes.into_iter().filter(FailedPaths::is_of_this_boot) {
            let paths = note.paths.iter().map(|path| (note.map.clone(), *path));
            self.failed.extend(paths);
            self.noted.insert(note.map, note.paths);
        }
    }

    /// Examines all maps with watched paths and does what is to be done. Returns `false` if a path
    /// could not be noted, and so was not taken out: the caller has to try again.
    pub(super) fn act(&mut self, watched: &[(Number, State)], last_too: bool) -> bool {
        let plan = self.plan(watched, last_too);
        let (reinstate, fail): (Plan, Plan) = plan
            .into_iter()
            .partition(|(_, _, action)| *action == MapAction::Reinstate);
        for (map, path, action) in reinstate {
            if self.send(&map, path, action) {
                self.failed.remove(&(map.uuid, path));
            }
        }
        self.fail_paths(fail);
        self.note();
        self.wanted.is_empty()
    }

    /// Takes paths out of their maps if they are noted. The others stay wanted, which is logged
    /// once.
    fn fail_paths(&mut self, plan: Plan) {
        let entry = |map: &Map, path: Number| (map.uuid.clone(), path);
        let wanted = plan
            .iter()
            .map(|(map, path, _)| entry(map, *path))
            .collect();
        let wanted_before = std::mem::replace(&mut self.wanted, wanted);
        self.note();
        let all_on_disk = !plan.is_empty() && self.notes.are_on_disk();
        for (map, path, action) in plan {
            let entry = entry(&map, path);
            let noted = self.noted.get(&map.uuid);
            if all_on_disk && noted.is_some_and(|paths| paths.contains(&path)) {
                self.wanted.remove(&entry);
                if self.send(&map, path, action) {
                    self.failed.insert(entry);
                }
            } else if !wanted_before.contains(&entry) {
                tracing::error!("{map}: {}: {NOT_NOTED}", message(path, action));
            }
        }
    }

    /// Gives up what is still to be taken out.
    pub(super) fn stop_failing(&mut self) {
        self.wanted.clear();
        self.note();
    }

    /// Decides what is to be done at all maps.
    fn plan(&mut self, watched: &[(Number, State)], last_too: bool) -> Plan {
        let mapper = &self.mapper;
        self.failed.retain(|(uuid, path)| {
            let maps = mapper.maps_above(*path);
            maps.iter().any(|map| map.uuid == *uuid)
        });
        let mut maps: BTreeMap<Map, Vec<(Number, State)>> = BTreeMap::new();
        for (path, state) in watched {
            for map in mapper.maps_above(*path) {
                maps.entry(map).or_default().push((*path, *state));
            }
        }
        let mut plan = Vec::new();
        for (map, paths) in maps {
            match self.mapper.status(map.number) {
                Ok(status) => {
                    let actions = self.plan_for(&map, &paths, &status, last_too);
                    plan.extend(
                        actions
                            .into_iter()
                            .map(|(path, action)| (map.clone(), path, action)),
                    );
                }
                Err(error) => tracing::error!("{map}: {error}"),
            }
        }
        plan
    }

    fn plan_for(
        &mut self,
        map: &Map,
        paths: &[(Number, State)],
        status: &str,
        last_too: bool,
    ) -> Vec<(Number, MapAction)> {
        let status = paths_in_status(status);
        let active = |device: Number| status.contains(&(device, true));
        // A path that others reinstated meanwhile is no longer ours.
        self.failed
            .retain(|(uuid, path)| *uuid != map.uuid || !active(*path));
        let paths = paths.iter().map(|&(device, state)| MapPath {
            device,
            state,
            taken: self.failed.contains(&(map.uuid.clone(), device)),
            active: active(device),
        });
        decide(&paths.collect::<Vec<_>>(), last_too)
    }

    /// Sends an action to a map; returns whether it succeeded.
    fn send(&self, map: &Map, path: Number, action: MapAction) -> bool {
        let message = message(path, action);
        let done = self.mapper.message(map.number, &message);
        match &done {
            Ok(()) => tracing::warn!("{map}: {message}"),
            Err(error) => tracing::error!("{map}: {message}: {error}"),
        }
        done.is_ok()
    }

    /// Writes a note about each map that has changed since its last note.
    fn note(&mut self) {
        let mut now: BTreeMap<&String, BTreeSet<Number>> = BTreeMap::new();
        for (map, path) in self.failed.union(&self.wanted) {
            now.entry(map).or_default().insert(*path);
        }
        let known: BTreeSet<&String> = self.noted.keys().chain(now.keys().copied()).collect();
        let none = BTreeSet::new();
        let before = |map| self.noted.get(map).unwrap_or(&none);
        let after = |map| now.get(map).unwrap_or(&none);
        let other = known.into_iter().filter(|map| before(*map) != after(*map));
        let notes: Vec<FailedPaths> = other
            .map(|map| FailedPaths {
                boot: self.boot.clone(),
                map: map.clone(),
                paths: after(map).clone(),
            })
            .collect();
        for note in notes {
            // A note that found no room is written with the next event.
            if self.notes.keep(&note) {
                self.noted.insert(note.map, note.paths);
            }
        }
        self.noted.retain(|_, paths| !paths.is_empty());
    }
}

/// The message for an action on a path.
fn message(path: Number, action: MapAction) -> String {
    format!("{action} {}:{}", path.0, path.1)
}

impl std::fmt::Display for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "map {}:{}", self.number.0, self.number.1)
    }
}

#[cfg(test)]
pub(super) mod tests;
