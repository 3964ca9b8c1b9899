//! The rows of the table: filtered, sorted, and below the headings of groups.

use crate::api::{PathDocument, by_group};

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Group,
    State,
    Latency,
    Changed,
}

impl Sort {
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Group => Sort::State,
            Sort::State => Sort::Latency,
            Sort::Latency => Sort::Changed,
            Sort::Changed => Sort::Group,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Group => "group",
            Sort::State => "state, worst first",
            Sort::Latency => "latency, slowest first",
            Sort::Changed => "last change, latest first",
        }
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Group {
        name: Option<String>,
        usable: usize,
        all: usize,
    },
    /// A path, by its index in the status.
    Path(usize),
}

/// All rows of the table.
pub(super) fn rows(paths: &[PathDocument], sort: Sort, filter: &str) -> Vec<Row> {
    let filter = filter.to_lowercase();
    if sort == Sort::Group && paths.iter().any(|path| path.group.is_some()) {
        return grouped(paths, &filter);
    }
    let fitting = paths
        .iter()
        .enumerate()
        .filter(|(_, path)| path.matches_filter(&filter));
    let mut places: Vec<usize> = fitting.map(|(place, _)| place).collect();
    let latency = |place: &usize| paths[*place].latency_us.map_or(0, |us| us.last);
    match sort {
        Sort::Group => {}
        Sort::State => places.sort_by_key(|place| paths[*place].badness()),
        Sort::Latency => places.sort_by_key(|place| std::cmp::Reverse(latency(place))),
        Sort::Changed => places.sort_by(|a, b| paths[*b].since.cmp(&paths[*a].since)),
    }
    places.into_iter().map(Row::Path).collect()
}

fn grouped(paths: &[PathDocument], filter: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, members) in by_group(paths) {
        let usable = members.iter().filter(|place| paths[**place].is_usable());
        let group = Row::Group {
            name: name.map(str::to_owned),
            usable: usable.count(),
            all: members.len(),
        };
        let mut fitting = members
            .into_iter()
            .filter(|place| paths[*place].matches_filter(filter))
            .peekable();
        if fitting.peek().is_some() {
            rows.push(group);
            rows.extend(fitting.map(Row::Path));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::path;

    fn shown(paths: &[PathDocument], sort: Sort, filter: &str) -> Vec<String> {
        let text = |row: Row| match row {
            Row::Group { name, usable, all } => format!("{name:?} {usable}/{all}"),
            Row::Path(place) => paths[place].path.clone(),
        };
        rows(paths, sort, filter).into_iter().map(text).collect()
    }

    #[test]
    fn rows_are_grouped_sorted_and_filtered() {
        let mut paths = [("a", "up"), ("b", "down"), ("c", "up"), ("d", "marginal")]
            .map(|(name, state)| path(name, state));
        paths[2].latency_us.as_mut().expect("some").last = 9_000;
        paths[0].since = "2026-11-22T15:00:00Z".to_owned();
        assert_eq!(shown(&paths, Sort::Group, ""), ["a", "b", "c", "d"]);
        assert_eq!(shown(&paths, Sort::State, ""), ["b", "d", "a", "c"]);
        assert_eq!(shown(&paths, Sort::Latency, "")[0], "c");
        assert_eq!(shown(&paths, Sort::Changed, "")[0], "a");
        assert_eq!(shown(&paths, Sort::Group, "MARG"), ["d"]);
        paths[1].group = Some("g".to_owned());
        paths[3].group = Some("g".to_owned());
        assert_eq!(
            shown(&paths, Sort::Group, ""),
            ["Some(\"g\") 1/2", "b", "d", "None 2/2", "a", "c"]
        );
        assert_eq!(shown(&paths, Sort::Group, "down"), ["Some(\"g\") 1/2", "b"]);
        let mut sort = Sort::Group;
        for _ in 0..4 {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Group);
    }
}
