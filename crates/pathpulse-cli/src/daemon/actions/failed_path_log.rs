//! The legs that we took out of their maps, over restarts of the daemon, and what is done about all legs.
//!
//! A leg that we take out is noted on the disk before it is, and one that we give back after: whatever a
//! crash comes between, what is found noted but in use is struck off, and nothing that is ours is
//! forgotten. What can't be noted stays in its map. A note says which boot it is of, since a map that is
//! set up anew begins with all of its legs.

use std::collections::{BTreeMap, BTreeSet};

use pathpulse::State;

use super::rules::{Deed, Leg, decide, legs_of_status};
use crate::daemon::events::store_file::{Taken, this_boot};

/// Why a leg stays in its map that should be taken out.
const NOT_NOTED: &str = "not sent yet: the state file has no note of it, without which no later daemon \
    gives it back; trying again every second";

/// The number of a device.
pub(super) type Number = (u32, u32);

/// A multipath map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Map {
    /// What it is, whatever its number.
    pub(super) uuid: String,
    pub(super) number: Number,
}

/// What the kernel knows of maps, and does to them.
pub(super) trait Mapper {
    /// The multipath maps that a device is a leg of.
    fn maps_above(&self, leg: Number) -> Vec<Map>;
    /// What a map says of itself.
    fn status(&self, map: Number) -> Result<String, String>;
    /// Has a map do something.
    fn message(&self, map: Number, message: &str) -> Result<(), String>;
}

/// Where notes are kept that survive us.
pub(super) trait Notes {
    /// Keeps a note, after those before it; says whether there was room for it. Waits for nothing.
    fn keep(&mut self, taken: &Taken) -> bool;
    /// Whether all that was kept is on the disk. Waits for that, but not for long.
    fn are_on_disk(&mut self) -> bool;
}

/// What we took, and what of it is noted where it survives us.
pub(super) struct Ledger<M, N> {
    mapper: M,
    notes: N,
    /// Legs that we took out, each with the uuid of its map.
    taken: BTreeSet<Entry>,
    /// Legs that we mean to take out.
    wanted: BTreeSet<Entry>,
    noted: BTreeMap<String, BTreeSet<Number>>,
    boot: String,
}

/// A leg, and the uuid of its map.
type Entry = (String, Number);
/// What is to be done.
type Plan = Vec<(Map, Number, Deed)>;

impl<M: Mapper, N: Notes> Ledger<M, N> {
    pub(super) fn new(mapper: M, notes: N) -> Ledger<M, N> {
        Ledger {
            mapper,
            notes,
            taken: BTreeSet::new(),
            wanted: BTreeSet::new(),
            noted: BTreeMap::new(),
            boot: this_boot(),
        }
    }

    pub(super) fn notes(&mut self) -> &mut N {
        &mut self.notes
    }

    /// Takes in what was noted before this daemon's start.
    pub(super) fn recall(&mut self, notes: Vec<Taken>) {
        for note in notes.into_iter().filter(Taken::is_of_this_boot) {
            let legs = note.legs.iter().map(|leg| (note.map.clone(), *leg));
            self.taken.extend(legs);
            self.noted.insert(note.map, note.legs);
        }
    }

    /// Looks at all maps that have watched legs, and does what there is to do. Returns whether all of it
    /// was tried: what could not be noted was not, and this has to be called again.
    pub(super) fn act(&mut self, watched: &[(Number, State)], last_too: bool) -> bool {
        let plan = self.plan(watched, last_too);
        let (give_back, take_out): (Plan, Plan) = plan
            .into_iter()
            .partition(|(_, _, deed)| *deed == Deed::GiveBack);
        for (map, leg, deed) in give_back {
            if self.perform(&map, leg, deed) {
                self.taken.remove(&(map.uuid, leg));
            }
        }
        self.take_out(take_out);
        self.note();
        self.wanted.is_empty()
    }

    /// Takes these out of their maps, if that is noted; what is not stays wanted, which is logged once.
    fn take_out(&mut self, plan: Plan) {
        let entry = |map: &Map, leg: Number| (map.uuid.clone(), leg);
        let wanted = plan.iter().map(|(map, leg, _)| entry(map, *leg)).collect();
        let wanted_before = std::mem::replace(&mut self.wanted, wanted);
        self.note();
        let all_on_disk = !plan.is_empty() && self.notes.are_on_disk();
        for (map, leg, deed) in plan {
            let entry = entry(&map, leg);
            let noted = self.noted.get(&map.uuid);
            if all_on_disk && noted.is_some_and(|legs| legs.contains(&leg)) {
                self.wanted.remove(&entry);
                if self.perform(&map, leg, deed) {
                    self.taken.insert(entry);
                }
            } else if !wanted_before.contains(&entry) {
                tracing::error!("{map}: {}: {NOT_NOTED}", message(leg, deed));
            }
        }
    }

    /// Means to take nothing out any more.
    pub(super) fn rest(&mut self) {
        self.wanted.clear();
        self.note();
    }

    /// What is to be done.
    fn plan(&mut self, watched: &[(Number, State)], last_too: bool) -> Plan {
        let mapper = &self.mapper;
        self.taken.retain(|(uuid, leg)| {
            let maps = mapper.maps_above(*leg);
            maps.iter().any(|map| map.uuid == *uuid)
        });
        let mut maps: BTreeMap<Map, Vec<(Number, State)>> = BTreeMap::new();
        for (leg, state) in watched {
            for map in mapper.maps_above(*leg) {
                maps.entry(map).or_default().push((*leg, *state));
            }
        }
        let mut plan = Vec::new();
        for (map, legs) in maps {
            match self.mapper.status(map.number) {
                Ok(status) => {
                    let deeds = self.plan_for(&map, &legs, &status, last_too);
                    plan.extend(
                        deeds
                            .into_iter()
                            .map(|(leg, deed)| (map.clone(), leg, deed)),
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
        legs: &[(Number, State)],
        status: &str,
        last_too: bool,
    ) -> Vec<(Number, Deed)> {
        let status = legs_of_status(status);
        let active = |device: Number| status.contains(&(device, true));
        // What others have given back meanwhile is no longer ours.
        self.taken
            .retain(|(uuid, leg)| *uuid != map.uuid || !active(*leg));
        let legs = legs.iter().map(|&(device, state)| Leg {
            device,
            state,
            taken: self.taken.contains(&(map.uuid.clone(), device)),
            active: active(device),
        });
        decide(&legs.collect::<Vec<_>>(), last_too)
    }

    /// Whether it could be done.
    fn perform(&self, map: &Map, leg: Number, deed: Deed) -> bool {
        let message = message(leg, deed);
        let done = self.mapper.message(map.number, &message);
        match &done {
            Ok(()) => tracing::warn!("{map}: {message}"),
            Err(error) => tracing::error!("{map}: {message}: {error}"),
        }
        done.is_ok()
    }

    /// Notes what is other than it was noted.
    fn note(&mut self) {
        let mut now: BTreeMap<&String, BTreeSet<Number>> = BTreeMap::new();
        for (map, leg) in self.taken.union(&self.wanted) {
            now.entry(map).or_default().insert(*leg);
        }
        let known: BTreeSet<&String> = self.noted.keys().chain(now.keys().copied()).collect();
        let none = BTreeSet::new();
        let before = |map| self.noted.get(map).unwrap_or(&none);
        let after = |map| now.get(map).unwrap_or(&none);
        let other = known.into_iter().filter(|map| before(*map) != after(*map));
        let notes: Vec<Taken> = other
            .map(|map| Taken {
                boot: self.boot.clone(),
                map: map.clone(),
                legs: after(map).clone(),
            })
            .collect();
        for taken in notes {
            // What there was no room for is tried again with the next thing that happens.
            if self.notes.keep(&taken) {
                self.noted.insert(taken.map, taken.legs);
            }
        }
        self.noted.retain(|_, legs| !legs.is_empty());
    }
}

/// As a map understands it.
fn message(leg: Number, deed: Deed) -> String {
    format!("{deed} {}:{}", leg.0, leg.1)
}

impl std::fmt::Display for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "map {}:{}", self.number.0, self.number.1)
    }
}

#[cfg(test)]
pub(super) mod tests;
