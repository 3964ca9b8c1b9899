//! Nothing names the folders in which the project happened to be written.

use crate::known::Violation;
use crate::repository::Repository;

/// Folders of somebody's machine. In parts, so that this file doesn't name them.
const FOLDERS: [[&str; 2]; 2] = [["/work", "/"], ["/root", "/"]];

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in repository.files() {
        for (number, line) in file.text.lines().enumerate() {
            for folder in FOLDERS.map(|parts| parts.concat()) {
                if names(line, &folder) {
                    let what =
                        format!("names {folder}; use a path of the repository or a made-up one");
                    violations.push(Violation::new(&file.path, number + 1, what));
                }
            }
        }
    }
    violations
}

/// Whether the line names this folder of `/`, and not one deeper down.
fn names(line: &str, folder: &str) -> bool {
    let mut places = line.match_indices(folder);
    places.any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|char| char.is_alphanumeric() || "._-}$)".contains(char))
    })
}

#[test]
fn folders_of_the_root_only_are_meant() {
    let folder = FOLDERS[0].concat();
    assert!(names(&format!("cd {folder}main"), &folder));
    assert!(!names(&format!("tests{folder}main"), &folder));
}
