//! The table of `pathpulse status`: one line for each path, by groups, within the given width.
//!
//! States and causes are never cut. If the table is too wide, the least important columns are left
//! out, and names are shortened where they are equal. Output that is not a terminal has no limit.

use std::collections::BTreeSet;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use unicode_width::UnicodeWidthStr;

use super::output;
use crate::api::{PathDocument, PathState, by_group};
use crate::human;

/// Names are shortened to this many columns before a column is left out.
const NAME_COLUMNS: usize = 24;
/// Blanks between two columns.
const GAP: usize = 2;
/// The indent of paths below the heading of their group.
const INDENT: &str = "  ";
/// The text of a cell without a value.
const NOTHING: &str = "-";

/// A column, except for the one of the names.
struct Column {
    heading: &'static str,
    is_number: bool,
    text: fn(&PathDocument) -> String,
}

const COLUMNS: [Column; 8] = [
    text_column("STATE", |path| path.shown_state().to_string()),
    text_column("CAUSE", cause),
    text_column("FOR", |path| since(&path.since)),
    text_column("KNOWN", known),
    number_column("LAST", |path| latency(path.latency_us.map(|us| us.last))),
    number_column("P50", |path| latency(path.latency_us.map(|us| us.p50))),
    number_column("P99", |path| latency(path.latency_us.map(|us| us.p99))),
    number_column("CHECKS", |path| path.checks.total.to_string()),
];
/// More columns of `--wide`, each shown if a path has a value.
const WIDE: [Column; 8] = [
    text_column("HCTL", |path| text_or_dash(&path.details.hctl)),
    text_column("MAP", |path| text_or_dash(&path.details.map)),
    number_column("SIZE", size),
    text_column("MODEL", model),
    text_column("VIA", |path| text_or_dash(&path.details.transport)),
    text_column("ADAPTER", |path| {
        text_or_dash(&path.details.topology.adapter)
    }),
    text_column("TARGET-PORT", |path| {
        text_or_dash(&path.details.topology.target_port)
    }),
    text_column("ALSO", also),
];
/// Columns that can be left out, the least important first.
const DISPENSABLE: [&str; 5] = ["CHECKS", "P50", "LAST", "P99", "KNOWN"];

const fn text_column(heading: &'static str, text: fn(&PathDocument) -> String) -> Column {
    Column {
        heading,
        is_number: false,
        text,
    }
}

const fn number_column(heading: &'static str, text: fn(&PathDocument) -> String) -> Column {
    Column {
        heading,
        is_number: true,
        text,
    }
}

/// A group with some shown paths.
struct Group<'a> {
    /// `None` for paths without a group.
    name: Option<&'a str>,
    /// The number of paths that are up, and of all paths, whether they are shown or not.
    up: usize,
    all: usize,
    shown: Vec<&'a PathDocument>,
}

/// How much of each path is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// As much as fits into this many columns of a terminal.
    Columns(u16),
    /// Everything about its state.
    Whole,
    /// Details of its device, too: model, size, and where it is attached.
    Wide,
}

/// The table of the paths at these indexes, with headings of groups.
pub(crate) fn text(paths: &[PathDocument], shown: &BTreeSet<usize>, width: Width) -> String {
    lines(paths, shown, width).join("\n") + "\n"
}

fn groups<'a>(paths: &'a [PathDocument], shown: &BTreeSet<usize>) -> Vec<Group<'a>> {
    let groups = by_group(paths).into_iter().map(|(name, places)| {
        let up = places
            .iter()
            .filter(|place| *paths[**place].shown_state() == PathState::Up);
        let shown = places.iter().filter(|place| shown.contains(place));
        Group {
            name,
            up: up.count(),
            all: places.len(),
            shown: shown.map(|place| &paths[*place]).collect(),
        }
    });
    groups.filter(|group| !group.shown.is_empty()).collect()
}

fn lines(paths: &[PathDocument], shown: &BTreeSet<usize>, width: Width) -> Vec<String> {
    let groups = groups(paths, shown);
    let has_groups = groups.iter().any(|group| group.name.is_some());
    let indent = if has_groups { INDENT } else { "" };
    let in_order: Vec<&PathDocument> = groups
        .iter()
        .flat_map(|group| &group.shown)
        .copied()
        .collect();
    let table = table(&in_order, indent, width);
    let mut rows = table.lines().map(|line| line.trim_end().to_owned());
    let mut lines: Vec<String> = rows.next().into_iter().collect();
    let mut headings = headings(&groups, width.columns()).into_iter();
    for group in groups {
        let heading = headings.next();
        lines.extend(heading.filter(|_| has_groups));
        lines.extend(rows.by_ref().take(group.shown.len()));
    }
    lines
}

/// The heading of each group.
fn headings(groups: &[Group], width: usize) -> Vec<String> {
    let count = |group: &Group| format!(": {} of {} up", group.up, group.all);
    let counts: Vec<String> = groups.iter().map(count).collect();
    let longest = counts.iter().map(|count| count.width()).max().unwrap_or(0);
    let name = |group: &Group| match group.name {
        Some(name) => output::printable(name),
        None => "without a group".to_owned(),
    };
    let names: Vec<String> = groups.iter().map(name).collect();
    let names = names.iter().map(String::as_str);
    let names = output::shorten_all(names, width.saturating_sub(longest));
    names
        .into_iter()
        .zip(counts)
        .map(|(name, count)| name + &count)
        .collect()
}

fn table(paths: &[&PathDocument], indent: &str, width: Width) -> Table {
    let names: Vec<String> = paths
        .iter()
        .map(|path| output::printable(&path.path))
        .collect();
    let longest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let wide = WIDE
        .iter()
        .filter(|column| width == Width::Wide && column.has_value(paths));
    let mut columns: Vec<(&Column, usize)> = COLUMNS
        .iter()
        .chain(wide)
        .map(|column| (column, column.width(paths)))
        .collect();
    let width = width.columns();
    let room = |columns: &[(&Column, usize)]| {
        let taken: usize = columns.iter().map(|(_, width)| GAP + width).sum();
        width.saturating_sub(taken + indent.len())
    };
    for heading in DISPENSABLE {
        if room(&columns) < longest.min(NAME_COLUMNS) {
            columns.retain(|(column, _)| column.heading != heading);
        }
    }
    let name_columns = room(&columns);
    let mut headings = vec!["PATH"];
    headings.extend(columns.iter().map(|(column, _)| column.heading));
    let mut table = output::table(&headings);
    table.set_content_arrangement(ContentArrangement::Disabled);
    let names = output::shorten_all(names.iter().map(String::as_str), name_columns);
    for (path, name) in paths.iter().zip(names) {
        let mut row = vec![Cell::new(format!("{indent}{name}"))];
        row.extend(columns.iter().map(|(column, _)| column.cell(path)));
        table.add_row(row);
    }
    table
}

impl Width {
    fn columns(self) -> usize {
        match self {
            Width::Columns(columns) => usize::from(columns),
            Width::Whole | Width::Wide => usize::MAX,
        }
    }
}

impl Column {
    fn has_value(&self, paths: &[&PathDocument]) -> bool {
        paths.iter().any(|path| (self.text)(path) != NOTHING)
    }

    /// The width of its widest cell.
    fn width(&self, paths: &[&PathDocument]) -> usize {
        let cells = paths.iter().map(|path| (self.text)(path).width());
        cells.max().unwrap_or(0).max(self.heading.len())
    }

    fn cell(&self, path: &PathDocument) -> Cell {
        let text = (self.text)(path);
        match self.heading {
            "STATE" => output::state_cell(&text),
            _ if self.is_number => Cell::new(text).set_alignment(CellAlignment::Right),
            _ => Cell::new(text),
        }
    }
}

fn latency(us: Option<u64>) -> String {
    us.map_or_else(|| NOTHING.to_owned(), output::latency)
}

/// The cause, and the age of an unanswered read.
pub(crate) fn cause(path: &PathDocument) -> String {
    match path.stuck_ms {
        Some(ms) => format!("{}, stuck {}", path.cause, output::age(ms / 1_000)),
        None => path.shown_cause(),
    }
}

fn text_or_dash(text: &Option<String>) -> String {
    text.as_deref()
        .map_or_else(|| NOTHING.to_owned(), output::printable)
}

fn size(path: &PathDocument) -> String {
    path.details
        .size_bytes
        .map_or_else(|| NOTHING.to_owned(), output::size)
}

/// Vendor and model, if they are known.
fn model(path: &PathDocument) -> String {
    let parts = [&path.details.vendor, &path.details.model]
        .into_iter()
        .flatten();
    let parts: Vec<String> = parts.map(|part| output::printable(part)).collect();
    match parts.is_empty() {
        true => NOTHING.to_owned(),
        false => parts.join(" "),
    }
}

/// The other names of the device on the watchlist.
fn also(path: &PathDocument) -> String {
    match path.also.is_empty() {
        true => NOTHING.to_owned(),
        false => path.also.join(" "),
    }
}

/// The age of the last verdict.
fn known(path: &PathDocument) -> String {
    let age = path.verdict_age_ms.map(|ms| output::age(ms / 1_000));
    age.map_or_else(|| NOTHING.to_owned(), |age| age + " ago")
}

/// The time since then.
pub(crate) fn since(time: &str) -> String {
    human::since(time).map_or_else(|| NOTHING.to_owned(), output::age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::path;

    fn all(paths: &[PathDocument]) -> BTreeSet<usize> {
        (0..paths.len()).collect()
    }

    #[test]
    fn counts_of_a_group_include_paths_that_are_not_shown() {
        let mut paths: Vec<_> = (0..6).map(|n| path(&format!("/dev/sd{n}"), "up")).collect();
        for path in &mut paths[..5] {
            path.group = Some("database".to_owned());
        }
        paths[0].state = PathState::Down;
        let lines = lines(&paths, &BTreeSet::from([0]), Width::Columns(80));
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert_eq!(lines[1], "database: 4 of 5 up");
        assert!(lines[2].contains("/dev/sd0") && lines[2].contains(" down "));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_state_is_cut() {
        let names = [
            "/dev/sda".to_owned(),
            format!(
                "/dev/disk/by-path/pci-0000:00:1f.2-{}-lun-1",
                "x".repeat(300)
            ),
            "/tmp/磁盘磁盘磁盘磁盘磁盘磁盘磁盘磁盘磁盘磁盘磁盘磁盘".to_owned(),
            "/tmp/\x1b[31m\nred".to_owned(),
        ];
        let mut paths: Vec<PathDocument> =
            names.iter().map(|name| path(name, "marginal")).collect();
        for path in &mut paths {
            path.cause = "reservation_conflict".into();
            path.checks.total = u64::MAX;
            path.since = "1970-01-02T00:00:00Z".to_owned();
        }
        paths[2].cause = "timed_out".into();
        paths[2].stuck_ms = Some(86_400_000 * 365);
        paths[3].group = Some("g".repeat(200));
        for width in [80, 100, 132, 200] {
            let lines = lines(&paths, &all(&paths), Width::Columns(width));
            assert_eq!(lines.len(), 1 + 2 + paths.len());
            for line in &lines {
                assert!(
                    line.width() <= usize::from(width),
                    "{}: {line}",
                    line.width()
                );
            }
            let rows = lines.iter().filter(|line| line.contains(" marginal "));
            assert_eq!(rows.count(), paths.len(), "{lines:#?}");
            assert!(
                lines
                    .iter()
                    .any(|line| line.contains(" timed_out, stuck 365d00h "))
            );
            assert!(
                lines.iter().any(|line| line.contains("-lun-1 ")),
                "{lines:#?}"
            );
        }
    }

    #[test]
    fn names_that_differ_in_the_middle_differ_on_a_terminal() {
        let leg = |adapter: &str, port: u8| {
            let name = format!("pci-0000:{adapter}:00.0-fc-0x50060e8007e2a3{port}1-lun-0");
            path(&format!("/dev/disk/by-path/{name}"), "up")
        };
        let legs = [leg("3b", 0), leg("3b", 1), leg("af", 0), leg("af", 1)];
        let shown = lines(&legs, &all(&legs), Width::Columns(80));
        let names = shown[1..].iter().map(|line| line.split_whitespace().next());
        assert_eq!(names.collect::<BTreeSet<_>>().len(), 4, "{shown:#?}");
        let whole = text(&legs, &all(&legs), Width::Whole);
        for leg in &legs {
            assert!(whole.contains(&leg.path), "{whole}");
        }
        assert!(
            whole
                .lines()
                .all(|line| line.split_whitespace().count() > 5)
        );
    }

    #[test]
    fn wide_tables_show_device_details_and_no_empty_column() {
        let mut leg = path("/dev/sdb", "up");
        leg.details.hctl = Some("3:0:0:1".to_owned());
        leg.details.vendor = Some("HP".to_owned());
        leg.details.model = Some("MSA 2050 SAN".to_owned());
        leg.details.size_bytes = Some(1 << 40);
        leg.also = vec!["/dev/disk/by-id/wwn-1".to_owned()];
        let paths = [leg, path("/dev/nvme0n1", "up")];
        let wide = text(&paths, &all(&paths), Width::Wide);
        let mut lines = wide.lines();
        let headings = lines.next().expect("a heading");
        assert!(
            headings.ends_with("HCTL     SIZE     MODEL            ALSO"),
            "{wide}"
        );
        let leg = lines.next().expect("the leg");
        assert!(
            leg.contains("3:0:0:1  1.0 TiB  HP MSA 2050 SAN  /dev/disk/by-id/wwn-1"),
            "{wide}"
        );
        assert!(!text(&paths, &all(&paths), Width::Whole).contains("HCTL"));
    }

    #[test]
    fn groups_have_headings_and_paths_without_a_group_come_last() {
        let mut paths =
            ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"].map(|name| path(name, "up"));
        paths[1].group = Some("database".to_owned());
        paths[3].group = Some("database".to_owned());
        paths[3].state = PathState::Down;
        let lines = lines(&paths, &all(&paths), Width::Columns(80));
        let first_words: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(
            first_words,
            [
                "PATH",
                "database:",
                "/dev/sdb",
                "/dev/sdd",
                "without",
                "/dev/sda",
                "/dev/sdc"
            ]
        );
        assert!(lines[1].ends_with("1 of 2 up") && lines[4].ends_with("2 of 2 up"));
    }
}
