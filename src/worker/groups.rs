//! The groups of a worker's paths: their members, and how the members are judged together at the
//! end of a tick.

use std::collections::HashMap;

use pathpulse_kernel_compat::{Key, Mono, Table};

use super::Worker;
use super::path_runtime::PathRuntime;
use crate::health::{COMPARED_MAX, Peer, State, choose_kept_up, is_slow};

/// The groups of a worker.
#[derive(Default)]
pub(super) struct Groups {
    by_name: HashMap<Box<str>, Key>,
    all: Table<Group>,
    /// The groups in which something changed during this tick.
    changed: Vec<Key>,
    /// Reused by each comparison.
    medians_us: Vec<u64>,
}

struct Group {
    name: Box<str>,
    members: Vec<Key>,
    /// It is in [`Groups::changed`].
    is_changed: bool,
    /// A member has a new median latency.
    latencies_changed: bool,
}

impl Groups {
    /// A member of this group has another state of its own.
    pub(super) fn state_changed(&mut self, group: Option<Key>) {
        self.change(group, false);
    }

    /// A member of this group has another median latency.
    pub(super) fn latency_changed(&mut self, group: Option<Key>) {
        self.change(group, true);
    }

    fn change(&mut self, key: Option<Key>, latencies: bool) {
        let Some((key, group)) = key.and_then(|key| Some((key, self.all.get_mut(key)?))) else {
            return;
        };
        group.latencies_changed |= latencies;
        if !std::mem::replace(&mut group.is_changed, true) {
            self.changed.push(key);
        }
    }

    /// Adds a member to the group of this name, and returns the group.
    fn join(&mut self, name: &str, member: Key) -> Key {
        let key = match self.by_name.get(name) {
            Some(group) => *group,
            None => {
                let group = self.all.insert(Group {
                    name: name.into(),
                    members: Vec::new(),
                    is_changed: false,
                    latencies_changed: false,
                });
                self.by_name.insert(name.into(), group);
                group
            }
        };
        if let Some(group) = self.all.get_mut(key) {
            group.members.push(member);
        }
        key
    }

    /// Removes a member; a group without members is removed, too.
    fn leave(&mut self, key: Key, member: Key) {
        self.change(Some(key), true);
        let Some(group) = self.all.get_mut(key) else {
            return;
        };
        group.members.retain(|other| *other != member);
        if group.members.is_empty() {
            self.by_name.remove(&group.name);
            self.all.remove(key);
        }
    }
}

impl Worker {
    /// Makes a path a member of a group.
    pub(super) fn join_group(&mut self, key: Key, name: &str) {
        let group = self.checker.groups.join(name, key);
        if let Some(path) = self.paths.get_mut(key) {
            path.group = Some(group);
        }
    }

    /// Removes a path from its group.
    pub(super) fn leave_group(&mut self, key: Key) {
        let path = self.paths.get_mut(key);
        if let Some(group) = path.and_then(|path| path.group.take()) {
            self.checker.groups.leave(group, key);
        }
    }

    /// Judges the members of changed groups together. This happens once all completions of a tick
    /// were applied, so that their order decides nothing.
    pub(super) fn judge_groups(&mut self) {
        if self.checker.groups.changed.is_empty() {
            return;
        }
        let now = self.checker.backend.now();
        let mut changed = std::mem::take(&mut self.checker.groups.changed);
        for key in changed.drain(..) {
            let Some(group) = self.checker.groups.all.get_mut(key) else {
                continue;
            };
            group.is_changed = false;
            let latencies_changed = std::mem::take(&mut group.latencies_changed);
            let members = std::mem::take(&mut group.members);
            if latencies_changed {
                self.compare_latencies(&members, now);
            }
            self.keep_one_up(&members);
            if let Some(group) = self.checker.groups.all.get_mut(key) {
                group.members = members;
            }
        }
        self.checker.groups.changed = changed;
    }

    /// Finds the members that are slow compared with their peers.
    fn compare_latencies(&mut self, members: &[Key], now: Mono) {
        let members = &members[..members.len().min(COMPARED_MAX)];
        let mut medians_us = std::mem::take(&mut self.checker.groups.medians_us);
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
            path.health.set_slow(slow, now);
        }
        self.checker.groups.medians_us = medians_us;
    }

    /// Publishes the members that are marginal, except the one that is kept up because no other
    /// member is up.
    fn keep_one_up(&mut self, members: &[Key]) {
        let peers = members.iter().map(|member| {
            let path = self.paths.get(*member);
            path.map_or(Peer::default(), |path| Peer {
                state: path.health.state(),
                kept_up: path.kept_up,
                errors: path.health.errors(),
            })
        });
        let kept_up = choose_kept_up(peers);
        for (place, member) in members.iter().enumerate() {
            let Some(mut member) = self.checked(*member) else {
                continue;
            };
            if member.path.health.state() == State::Marginal {
                member.path.kept_up = kept_up == Some(place);
                member.publish_now(String::new);
            }
        }
    }
}
