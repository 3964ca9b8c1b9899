//! The groups of a worker's paths: who belongs to which, and what follows from that after a turn.

use super::*;
use crate::health::{COMPARED, Peer, is_slow, kept_up};

/// The groups of a worker.
#[derive(Default)]
pub(super) struct Groups {
    by_name: HashMap<Box<str>, Key>,
    all: Table<Group>,
    /// Those in which something changed in this turn.
    unsettled: Vec<Key>,
    /// Reused.
    medians_us: Vec<u64>,
}

struct Group {
    name: Box<str>,
    members: Vec<Key>,
    unsettled: bool,
    /// A member has a new median latency.
    latencies_changed: bool,
}

impl Groups {
    fn change(&mut self, key: Option<Key>, latencies: bool) {
        let Some((key, group)) = key.and_then(|key| Some((key, self.all.get_mut(key)?))) else {
            return;
        };
        group.latencies_changed |= latencies;
        if !std::mem::replace(&mut group.unsettled, true) {
            self.unsettled.push(key);
        }
    }
}

impl Worker {
    /// The path is of this group from now on.
    pub(super) fn join(&mut self, key: Key, name: &str) {
        let groups = &mut self.groups;
        let group = match groups.by_name.get(name) {
            Some(group) => *group,
            None => {
                let group = groups.all.insert(Group {
                    name: name.into(),
                    members: Vec::new(),
                    unsettled: false,
                    latencies_changed: false,
                });
                groups.by_name.insert(name.into(), group);
                group
            }
        };
        if let Some(group) = groups.all.get_mut(group) {
            group.members.push(key);
        }
        if let Some(path) = self.paths.get_mut(key) {
            path.group = Some(group);
        }
    }

    /// The path is of no group any more.
    pub(super) fn part(&mut self, key: Key) {
        let group = self.paths.get_mut(key).and_then(|path| path.group.take());
        self.groups.change(group, true);
        let Some((of, group)) = group.and_then(|of| Some((of, self.groups.all.get_mut(of)?)))
        else {
            return;
        };
        group.members.retain(|member| *member != key);
        if group.members.is_empty() {
            self.groups.by_name.remove(&group.name);
            self.groups.all.remove(of);
        }
    }

    /// The path has another state, taken for itself.
    pub(super) fn group_changed(&mut self, key: Key) {
        let group = self.paths.get(key).and_then(|path| path.group);
        self.groups.change(group, false);
    }

    /// The path has another median latency.
    pub(super) fn latency_changed(&mut self, key: Key) {
        let group = self.paths.get(key).and_then(|path| path.group);
        self.groups.change(group, true);
    }

    /// Lets peers be compared, and one be kept_up where none is up, now that all that came in this
    /// turn was applied.
    pub(super) fn settle_groups(&mut self) {
        if self.groups.unsettled.is_empty() {
            return;
        }
        let now = self.backend.now();
        let mut unsettled = std::mem::take(&mut self.groups.unsettled);
        for key in unsettled.drain(..) {
            let Some(group) = self.groups.all.get_mut(key) else {
                continue;
            };
            group.unsettled = false;
            let compare = std::mem::take(&mut group.latencies_changed);
            let members = std::mem::take(&mut group.members);
            if compare {
                self.compare(&members, now);
            }
            self.spare(&members);
            if let Some(group) = self.groups.all.get_mut(key) {
                group.members = members;
            }
        }
        self.groups.unsettled = unsettled;
    }

    /// Finds out who is slow.
    fn compare(&mut self, members: &[Key], now: Mono) {
        let members = &members[..members.len().min(COMPARED)];
        let mut medians_us = std::mem::take(&mut self.groups.medians_us);
        medians_us.clear();
        let working = members.iter().filter_map(|member| self.paths.get(*member));
        medians_us.extend(working.filter_map(PathRuntime::comparable_us));
        medians_us.sort_unstable();
        for member in members {
            let Some(path) = self.paths.get_mut(*member) else {
                continue;
            };
            let rules = &path.settings.rules;
            let mine_us = path.comparable_us();
            let slow = mine_us.is_some_and(|mine_us| is_slow(mine_us, &medians_us, rules));
            path.health.compare(slow, now);
        }
        self.groups.medians_us = medians_us;
    }

    /// Shows who is marginal, and who is not although it would be.
    fn spare(&mut self, members: &[Key]) {
        let peers = members.iter().map(|member| {
            let path = self.paths.get(*member);
            path.map_or(Peer::default(), |path| Peer {
                state: path.health.state(),
                kept_up: path.kept_up,
                errors: path.health.errors(),
            })
        });
        let kept_up = kept_up(peers);
        for (place, member) in members.iter().enumerate() {
            let Some(path) = self.paths.get_mut(*member) else {
                continue;
            };
            if path.health.state() == State::Marginal {
                path.kept_up = kept_up == Some(place);
                self.show_now(*member, String::new);
            }
        }
    }
}
