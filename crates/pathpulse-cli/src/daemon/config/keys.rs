//! All keys and their sections, to explain a key in the wrong section.

use super::watch;

/// The sections and their own keys. Three of them have the keys of [`watch`] besides.
const SECTIONS: [(&str, &[&str]); 8] = [
    (
        "",
        &[
            "paths",
            "daemon",
            "defaults",
            "discovery",
            "hook",
            "multipath",
            "path",
            "group",
        ],
    ),
    (
        "[daemon]",
        &[
            "workers",
            "backend",
            "socket",
            "socket_group",
            "changes",
            "http",
            "state",
        ],
    ),
    ("[defaults]", &[]),
    (
        "[discovery]",
        &[
            "include",
            "exclude",
            "skip",
            "names",
            "multipath_legs",
            "minimum_size",
        ],
    ),
    ("[multipath]", &["fail_paths", "last_path_too"]),
    ("[[hook]]", &["run", "on", "match", "timeout"]),
    ("[[group]]", &["name", "match"]),
    ("[[path]]", &["name", "match", "group"]),
];

/// Sections with the keys of [`watch`].
const WATCHED: [&str; 3] = ["[defaults]", "[[group]]", "[[path]]"];

/// The keys of a section.
fn keys_of(title: &str) -> Vec<&'static str> {
    let own = SECTIONS.iter().find(|(known, _)| *known == title);
    let mut keys = own.map_or(Vec::new(), |(_, keys)| keys.to_vec());
    if WATCHED.contains(&title) {
        keys.extend(watch::names());
    }
    keys
}

/// All keys, for suggestions.
pub(super) fn all() -> Vec<&'static str> {
    SECTIONS
        .iter()
        .flat_map(|(title, _)| keys_of(title))
        .collect()
}

/// Where a key belongs, as text; `None` if there is no such key.
pub(super) fn place_of(key: &str) -> Option<String> {
    if SECTIONS[0].1.contains(&key) {
        return Some(match key {
            "paths" => "at the top of the file, above the first [section]".to_owned(),
            "hook" | "path" | "group" => format!("in a section of its own: [[{key}]]"),
            _ => format!("in a section of its own: [{key}]"),
        });
    }
    let titles = SECTIONS[1..].iter().map(|(title, _)| *title);
    let titles: Vec<&str> = titles
        .filter(|title| keys_of(title).contains(&key))
        .collect();
    match titles.split_last() {
        None => None,
        Some((only, [])) => Some(format!("in {only}")),
        Some((last, others)) => Some(format!("in {} or {last}", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::file::File;

    #[test]
    fn each_section_knows_the_keys_that_are_said_to_be_in_it() {
        for (title, _) in SECTIONS {
            let text = format!("{title}\nqqqqqqqq = 1\n");
            let problems = File::parse(&text).expect_err("an unknown key");
            let mut problems = problems.iter().map(|problem| problem.what.as_str());
            let known = problems.find_map(|what| what.split_once("known keys: "));
            let mut known: Vec<&str> = known.expect("a list").1.split(", ").collect();
            let mut keys = keys_of(title);
            known.sort_unstable();
            keys.sort_unstable();
            assert_eq!(known, keys, "{title}");
        }
    }
}
