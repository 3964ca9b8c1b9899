//! What the page shows and in which order: the worst first, and no more rows than a browser
//! handles.

use std::collections::HashMap;

use jiff::Timestamp;
use rustix::system::uname;

use crate::api::{EventDocument, PathDocument, PathState, StatusDocument, by_group, count_states};

/// The number of rows. If there are more paths, the worst are shown and the others counted.
const ROWS_MAX: usize = 1_000;

/// The content of the page.
pub(super) struct View<'a> {
    pub(super) host: String,
    pub(super) now: Timestamp,
    pub(super) status: &'a StatusDocument,
    /// How many of all paths are in each state, the worst state first; only states with a path.
    pub(super) counts: Vec<(PathState, usize)>,
    pub(super) groups: Vec<PathGroup<'a>>,
    /// The latencies of paths with a row, in microseconds, the latest last.
    pub(super) latencies_us: HashMap<&'a str, Vec<u64>>,
    /// The number of paths that match the filter, and how many of those have no row.
    pub(super) matching: usize,
    pub(super) left_out: usize,
    pub(super) filter: &'a str,
    /// The latest first.
    pub(super) events: Vec<EventDocument>,
}

/// The paths of one storage, or the paths without a group.
pub(super) struct PathGroup<'a> {
    pub(super) name: Option<&'a str>,
    /// How many of its paths are up or marginal, and how many it has, shown or not.
    pub(super) usable: usize,
    pub(super) all: usize,
    /// Its paths with a row, the worst first.
    pub(super) paths: Vec<&'a PathDocument>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        status: &'a StatusDocument,
        events: Vec<EventDocument>,
        filter: &'a str,
    ) -> View<'a> {
        let groups = by_group(&status.paths);
        let groups = groups.into_iter().map(|(name, indexes)| {
            let paths = indexes.into_iter().map(|index| &status.paths[index]);
            PathGroup::new(name, paths.collect())
        });
        let mut groups: Vec<PathGroup> = groups.collect();
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

    /// Sets the latencies that the graphs of all rows begin with.
    pub(super) fn fill_graphs(&mut self, latencies_us: impl Fn(&PathDocument) -> Vec<u64>) {
        let paths = self.groups.iter().flat_map(|group| &group.paths);
        let all = paths.map(|path| (&*path.path, latencies_us(path)));
        self.latencies_us = all.collect();
    }

    /// How many paths are in this state.
    pub(super) fn count(&self, state: &PathState) -> usize {
        let found = self.counts.iter().find(|(name, _)| name == state);
        found.map_or(0, |(_, count)| *count)
    }
}

impl<'a> PathGroup<'a> {
    fn new(name: Option<&'a str>, paths: Vec<&'a PathDocument>) -> PathGroup<'a> {
        PathGroup {
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

/// Keeps the paths that match the filter and get a row, the worst first, and drops empty groups.
/// Returns how many paths match the filter.
fn select(groups: &mut Vec<PathGroup>, filter: &str) -> usize {
    let filter = filter.to_lowercase();
    for group in groups.iter_mut() {
        group.paths.retain(|path| path.matches_filter(&filter));
        group.paths.sort_by_key(|path| path.badness());
    }
    groups.retain(|group| !group.paths.is_empty());
    groups.sort_by_key(PathGroup::worst);
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
    fn the_worst_come_first_and_paths_without_a_row_are_counted() {
        let mut paths: Vec<_> = (0..2_000)
            .map(|n| path(&format!("/dev/sd{n}"), "up"))
            .collect();
        paths[1_500].state = PathState::Down;
        paths[1_900].state = PathState::Marginal;
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
        assert_eq!(
            view.counts,
            [
                (PathState::Down, 1),
                (PathState::Marginal, 1),
                (PathState::Up, 1_998)
            ]
        );
        assert_eq!((view.groups[0].usable, view.groups[0].all), (1_799, 1_800));

        let view = View::new(&status, Vec::new(), "DataBase");
        assert_eq!(
            (view.matching, view.left_out, view.groups.len()),
            (200, 0, 1)
        );
        assert_eq!(view.groups[0].paths[0].path, "/dev/sd1900");
        assert_eq!(
            view.count(&PathState::Down),
            1,
            "of all, not of what is shown"
        );
        assert_eq!(
            View::new(&status, Vec::new(), "nothing of that")
                .groups
                .len(),
            0
        );
    }
}
