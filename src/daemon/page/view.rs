//! What the page shows, and in which order: the worst first, and no more than a browser bears.

use std::collections::HashMap;

use jiff::Timestamp;
use rustix::system::uname;

use crate::daemon::document::{EventDocument, PathDocument, StatusDocument};

/// Rows at most; of more paths the worst are shown, and how many are not.
const ROWS_MAX: usize = 1_000;
/// States from the worst to the best.
const STATES: [&str; 6] = ["down", "marginal", "pending", "standby", "paused", "up"];

/// All that the page shows.
pub(super) struct View<'a> {
    pub(super) host: String,
    pub(super) now: Timestamp,
    pub(super) status: &'a StatusDocument,
    /// How many of all paths are in each state that some are in, the worst first.
    pub(super) counts: Vec<(&'static str, usize)>,
    pub(super) groups: Vec<Group<'a>>,
    /// Paths that the filter lets through, and how many of them have no row.
    pub(super) matching: usize,
    pub(super) left_out: usize,
    pub(super) filter: &'a str,
    /// The latest first.
    pub(super) events: Vec<EventDocument>,
}

/// Paths of one storage, or those that belong to none.
pub(super) struct Group<'a> {
    pub(super) name: Option<&'a str>,
    /// How many of its paths are up or marginal, and how many there are, shown or not.
    pub(super) usable: usize,
    pub(super) all: usize,
    /// Those that are shown, the worst first.
    pub(super) paths: Vec<&'a PathDocument>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        status: &'a StatusDocument,
        events: Vec<EventDocument>,
        filter: &'a str,
    ) -> View<'a> {
        let in_state = |state: &&'static str| {
            let paths = status.paths.iter();
            (*state, paths.filter(|path| path.state == *state).count())
        };
        let counts = STATES.iter().map(in_state);
        let mut groups = by_group(&status.paths);
        let matching = select(&mut groups, filter);
        View {
            host: uname().nodename().to_string_lossy().into_owned(),
            now: Timestamp::now(),
            status,
            counts: counts.filter(|(_, count)| *count > 0).collect(),
            matching,
            left_out: matching.saturating_sub(ROWS_MAX),
            groups,
            filter,
            events,
        }
    }

    /// How many paths are in this state.
    pub(super) fn count(&self, state: &str) -> usize {
        let found = self.counts.iter().find(|(name, _)| *name == state);
        found.map_or(0, |(_, count)| *count)
    }
}

impl Group<'_> {
    fn worst(&self) -> usize {
        self.paths
            .first()
            .map_or(STATES.len(), |path| badness(path))
    }
}

fn badness(path: &PathDocument) -> usize {
    let place = STATES.iter().position(|state| *state == path.state);
    place.unwrap_or(0)
}

fn by_group(paths: &[PathDocument]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places = HashMap::new();
    for path in paths {
        let name = path.group.as_deref();
        let place = *places.entry(name).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Group {
                name,
                usable: 0,
                all: 0,
                paths: Vec::new(),
            });
        }
        let group = &mut groups[place];
        group.all += 1;
        group.usable += usize::from(path.state == "up" || path.state == "marginal");
        group.paths.push(path);
    }
    groups
}

/// Leaves in the groups what there are rows for, the worst first, and no group that has none.
/// Returns how many paths the filter lets through.
fn select(groups: &mut Vec<Group>, filter: &str) -> usize {
    let filter = filter.to_lowercase();
    for group in groups.iter_mut() {
        group.paths.retain(|path| fits(path, &filter));
        group.paths.sort_by_key(|path| badness(path));
    }
    groups.retain(|group| !group.paths.is_empty());
    groups.sort_by_key(Group::worst);
    let matching = groups.iter().map(|group| group.paths.len()).sum();
    let mut room = ROWS_MAX;
    for group in groups.iter_mut() {
        group.paths.truncate(room);
        room -= group.paths.len();
    }
    groups.retain(|group| !group.paths.is_empty());
    matching
}

fn fits(path: &PathDocument, filter: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(filter);
    let group = path.group.as_deref().unwrap_or_default();
    let device = path.device.as_deref().unwrap_or_default();
    filter.is_empty()
        || [&path.path, group, &path.state, &path.cause, device]
            .into_iter()
            .any(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::examples::{path, status};

    #[test]
    fn the_worst_come_first_and_what_is_left_out_is_counted() {
        let mut paths: Vec<_> = (0..2_000)
            .map(|n| path(&format!("/dev/sd{n}"), "up"))
            .collect();
        paths[1_500].state = "down".to_owned();
        paths[1_900].state = "marginal".to_owned();
        for path in &mut paths[1_800..] {
            path.group = Some("database".to_owned());
        }
        let status = status(paths);
        let view = View::new(&status, Vec::new(), "");
        let first: Vec<_> = view
            .groups
            .iter()
            .map(|group| (group.name, &*group.paths[0].path))
            .collect();
        assert_eq!(first, [(None, "/dev/sd1500")]);
        assert_eq!((view.matching, view.left_out), (2_000, 1_000));
        assert_eq!(view.counts, [("down", 1), ("marginal", 1), ("up", 1_998)]);
        assert_eq!((view.groups[0].usable, view.groups[0].all), (1_799, 1_800));

        let view = View::new(&status, Vec::new(), "DataBase");
        assert_eq!(
            (view.matching, view.left_out, view.groups.len()),
            (200, 0, 1)
        );
        assert_eq!(view.groups[0].paths[0].path, "/dev/sd1900");
        assert_eq!(view.count("down"), 1, "of all, not of what is shown");
        assert_eq!(
            View::new(&status, Vec::new(), "nothing of that")
                .groups
                .len(),
            0
        );
    }
}
