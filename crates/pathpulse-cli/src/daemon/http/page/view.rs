//! What the page shows, and in which order: the worst first, and no more than a browser bears.

use std::collections::HashMap;

use jiff::Timestamp;
use rustix::system::uname;

use crate::api::document::{EventDocument, PathDocument, StatusDocument};
use crate::api::order::{by_group, count_states};

/// Rows at most; of more paths the worst are shown, and how many are not.
const ROWS_MAX: usize = 1_000;

/// All that the page shows.
pub(super) struct View<'a> {
    pub(super) host: String,
    pub(super) now: Timestamp,
    pub(super) status: &'a StatusDocument,
    /// How many of all paths are in each state that some are in, the worst first.
    pub(super) counts: Vec<(&'static str, usize)>,
    pub(super) groups: Vec<Group<'a>>,
    /// The latencies of paths that have rows, in microseconds, the latest last.
    pub(super) latencies_us: HashMap<&'a str, Vec<u64>>,
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
        let groups = by_group(&status.paths);
        let groups = groups.into_iter().map(|(name, places)| {
            let paths = places.into_iter().map(|place| &status.paths[place]);
            Group::new(name, paths.collect())
        });
        let mut groups: Vec<Group> = groups.collect();
        let matching = select(&mut groups, filter);
        View {
            host: uname().nodename().to_string_lossy().into_owned(),
            now: Timestamp::now(),
            status,
            counts: count_states(&status.paths),
            matching,
            left_out: matching.saturating_sub(ROWS_MAX),
            groups,
            latencies_us: HashMap::new(),
            filter,
            events,
        }
    }

    /// Has the graphs of all rows begin with these latencies.
    pub(super) fn fill_graphs(&mut self, latencies_us: impl Fn(&PathDocument) -> Vec<u64>) {
        let paths = self.groups.iter().flat_map(|group| &group.paths);
        let all = paths.map(|path| (&*path.path, latencies_us(path)));
        self.latencies_us = all.collect();
    }

    /// How many paths are in this state.
    pub(super) fn count(&self, state: &str) -> usize {
        let found = self.counts.iter().find(|(name, _)| *name == state);
        found.map_or(0, |(_, count)| *count)
    }
}

impl<'a> Group<'a> {
    fn new(name: Option<&'a str>, paths: Vec<&'a PathDocument>) -> Group<'a> {
        Group {
            name,
            usable: paths.iter().filter(|path| path.is_usable()).count(),
            all: paths.len(),
            paths,
        }
    }

    /// The badness of its worst path.
    fn worst(&self) -> Option<usize> {
        self.paths.first().map(|path| path.badness())
    }
}

/// Leaves in the groups what there are rows for, the worst first, and no group that has none.
/// Returns how many paths the filter lets through.
fn select(groups: &mut Vec<Group>, filter: &str) -> usize {
    let filter = filter.to_lowercase();
    for group in groups.iter_mut() {
        group.paths.retain(|path| path.fits(&filter));
        group.paths.sort_by_key(|path| path.badness());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::{path, status};

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
