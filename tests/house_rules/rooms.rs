//! Rooms, the folders of the library and of the daemon, and who imports whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::known::Violation;
use crate::repository::{File, Repository};

/// Folders whose subfolders are rooms, and how their modules are named from the root of the crate.
const HOUSES: [(&str, &str); 2] = [
    ("src/", ""),
    ("crates/pathpulse-cli/src/daemon/", "daemon::"),
];

/// More lines than any import has.
const IMPORT_LINES_MAX: usize = 100;

/// The first line of each import, by importing and imported room.
type Imports<'a> = BTreeMap<(&'a str, &'a str), (&'a str, usize)>;

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let houses = HOUSES.iter();
    houses
        .flat_map(|(folder, module)| circles(repository, folder, module))
        .collect()
}

/// The imports of a house that lead back to where they come from.
fn circles(repository: &Repository, house: &str, module: &str) -> Vec<Violation> {
    let files = repository.ending(".rs").filter_map(|file| {
        let (room, _) = file.path.strip_prefix(house)?.split_once('/')?;
        (!repository.is_test_module(file)).then_some((room, file))
    });
    let files: Vec<(&str, &File)> = files.collect();
    let rooms: BTreeSet<&str> = files.iter().map(|(room, _)| *room).collect();
    let mut imports = Imports::new();
    for (room, file) in &files {
        for (number, imported) in imported(file, house, module) {
            if let Some(other) = rooms.get(imported.as_str()).filter(|other| *other != room) {
                imports.entry((room, other)).or_insert((&file.path, number));
            }
        }
    }
    let circular = imports
        .iter()
        .filter(|((from, to), _)| leads_to(&imports, to, from));
    let violations = circular.map(|((from, to), (path, number))| {
        let what = format!(
            "{from} imports {to}, which leads back to {from}; move what both need, or hand it in"
        );
        Violation::new(path, *number, what)
    });
    violations.collect()
}

fn leads_to(imports: &Imports<'_>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut left = vec![from];
    while let Some(room) = left.pop() {
        let next = imports.keys().filter(|(importing, _)| *importing == room);
        left.extend(
            next.map(|(_, imported)| *imported)
                .filter(|imported| seen.insert(imported)),
        );
    }
    seen.contains(to)
}

/// The modules right below that of the house which the file uses, with the number of their line.
fn imported(file: &File, house: &str, module: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // How to get to the house's own module from the root, and from here.
    let from_root = format!("crate::{module}");
    let parts = file.path.strip_prefix(house).unwrap_or_default().split('/');
    let from_here = "super::".repeat(parts.filter(|part| *part != "mod.rs").count());
    let lines = file.lines();
    let places = file.lines_without_tests();
    let code = |place: &usize| lines[*place].code.trim();
    for (index, place) in places.iter().enumerate() {
        let line = code(place);
        for prefix in [&from_root, &from_here] {
            let starts = line.match_indices(prefix.as_str()).map(|(at, _)| at);
            for at in starts.filter(|at| !line[..*at].ends_with("::")) {
                // An import may go over many lines.
                let after: String = places[index + 1..]
                    .iter()
                    .take(IMPORT_LINES_MAX)
                    .map(code)
                    .collect();
                let rest = format!("{}{after}", &line[at + prefix.len()..]);
                found.extend(heads(&rest).into_iter().map(|head| (place + 1, head)));
            }
        }
    }
    found
}

/// The first names of a path, or of each path in braces.
fn heads(rest: &str) -> Vec<String> {
    let head = |text: &str| {
        let name = text
            .trim_start()
            .chars()
            .take_while(|char| char.is_alphanumeric() || *char == '_');
        name.collect::<String>()
    };
    let Some(list) = rest.strip_prefix('{') else {
        return vec![head(rest)];
    };
    let (mut heads, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(head(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        if char == '}' && depth == 0 && start > at {
            break;
        }
    }
    heads
}

#[test]
fn imports_are_found() {
    assert_eq!(heads("a::b;"), ["a"]);
    assert_eq!(heads("{a::{b, c}, d};use crate::e"), ["a", "d"]);
    let imports = Imports::from([
        (("a", "b"), ("", 1)),
        (("b", "c"), ("", 1)),
        (("c", "b"), ("", 1)),
    ]);
    assert!(leads_to(&imports, "b", "c") && leads_to(&imports, "c", "b"));
    assert!(!leads_to(&imports, "b", "a"));
}
