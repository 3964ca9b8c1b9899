//! The legs that we took out of their maps, over restarts of the daemon, and what is done about all legs.
//!
//! A leg that we take out is noted before it is, and one that we give back after: whatever a crash comes
//! between, what is found noted but in use is struck off, and nothing that is ours is forgotten. A note
//! says which boot it is of, since a map that is set up anew begins with all of its legs.

use std::collections::{BTreeMap, BTreeSet};

use pathpulse::State;

use super::rules::{Deed, Leg, decide, legs_of_status};
use crate::daemon::state_file::{Taken, this_boot};

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

/// What we took, and what of it is noted where it survives us.
pub(super) struct Ledger<M> {
    mapper: M,
    /// Legs that we took out, each with the uuid of its map.
    taken: BTreeSet<(String, Number)>,
    noted: BTreeMap<String, BTreeSet<Number>>,
    boot: String,
}

impl<M: Mapper> Ledger<M> {
    pub(super) fn new(mapper: M) -> Ledger<M> {
        Ledger {
            mapper,
            taken: BTreeSet::new(),
            noted: BTreeMap::new(),
            boot: this_boot(),
        }
    }

    /// Takes in what was noted before this daemon's start.
    pub(super) fn recall(&mut self, notes: Vec<Taken>) {
        for note in notes.into_iter().filter(Taken::is_of_this_boot) {
            let legs = note.legs.iter().map(|leg| (note.map.clone(), *leg));
            self.taken.extend(legs);
            self.noted.insert(note.map, note.legs);
        }
    }

    /// Looks at all maps that have watched legs, and does what there is to do. `note` keeps a note, if it
    /// can.
    pub(super) fn act(
        &mut self,
        watched: &[(Number, State)],
        last_too: bool,
        mut note: impl FnMut(&Taken) -> bool,
    ) {
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
        for (map, legs) in maps {
            match self.mapper.status(map.number) {
                Ok(status) => self.act_on(&map, &legs, &status, last_too, &mut note),
                Err(error) => tracing::error!("{map}: {error}"),
            }
        }
        self.note(&mut note);
    }

    fn act_on(
        &mut self,
        map: &Map,
        legs: &[(Number, State)],
        status: &str,
        last_too: bool,
        note: &mut impl FnMut(&Taken) -> bool,
    ) {
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
        let deeds = decide(&legs.collect::<Vec<_>>(), last_too);
        let ours = |leg: Number| (map.uuid.clone(), leg);
        let out = deeds.iter().filter(|(_, deed)| *deed == Deed::TakeOut);
        self.taken.extend(out.map(|(leg, _)| ours(*leg)));
        self.note(note);
        for (leg, deed) in deeds {
            let done = self.perform(map, leg, deed);
            if done == (deed == Deed::GiveBack) {
                self.taken.remove(&ours(leg));
            }
        }
    }

    /// Whether it could be done.
    fn perform(&self, map: &Map, leg: Number, deed: Deed) -> bool {
        let message = format!("{deed} {}:{}", leg.0, leg.1);
        let done = self.mapper.message(map.number, &message);
        match &done {
            Ok(()) => tracing::warn!("{map}: {message}"),
            Err(error) => tracing::error!("{map}: {message}: {error}"),
        }
        done.is_ok()
    }

    /// Notes what is other than it was noted.
    fn note(&mut self, note: &mut impl FnMut(&Taken) -> bool) {
        let mut now: BTreeMap<&String, BTreeSet<Number>> = BTreeMap::new();
        for (map, leg) in &self.taken {
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
            if note(&taken) {
                self.noted.insert(taken.map, taken.legs);
            }
        }
        self.noted.retain(|_, legs| !legs.is_empty());
    }
}

impl std::fmt::Display for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "map {}:{}", self.number.0, self.number.1)
    }
}

#[cfg(test)]
mod tests;
