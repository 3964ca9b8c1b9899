//! What the documentation says is in the repository is there.

use std::path::{Component, Path};

use crate::known::Violation;
use crate::repository::{File, Repository};

/// Ends of names that only files have.
const ENDS: [&str; 7] = [".rs", ".md", ".toml", ".sh", ".yml", ".json", ".svg"];

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let documents = repository
        .ending(".md")
        .filter(|file| is_document(&file.path));
    documents
        .flat_map(|file| in_document(repository, file))
        .collect()
}

/// Documents of the whole project; others speak of their own folder.
fn is_document(path: &str) -> bool {
    !path.contains('/') || path.starts_with("docs/")
}

fn in_document(repository: &Repository, file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut is_code = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        let links = links(line)
            .into_iter()
            .filter(|link| !is_linked(repository, file, link));
        let quoted = line.split('`').skip(1).step_by(2);
        let quoted = quoted.filter(|text| is_path(repository, text) && !is_there(repository, text));
        for missing in links.chain(quoted) {
            let what = format!("{missing} does not exist; name the place where it is now");
            violations.push(Violation::new(&file.path, number + 1, what));
        }
    }
    violations
}

/// Where the links of a line lead.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .collect()
}

/// Whether a link leads to a file or folder, from where the document is.
fn is_linked(repository: &Repository, file: &File, link: &str) -> bool {
    let mut place = Vec::new();
    for part in Path::new(&file.path).with_file_name(link).components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            part => place.push(part.as_os_str().to_string_lossy().into_owned()),
        }
    }
    repository.has(&place.join("/"))
}

/// Whether the text looks like a path in the repository.
fn is_path(repository: &Repository, text: &str) -> bool {
    let is_plain = |char: char| char.is_alphanumeric() || "/._-".contains(char);
    if text.starts_with(['/', '.', '-']) || !text.chars().all(is_plain) {
        return false;
    }
    let first = text.split('/').next().unwrap_or_default();
    text.contains('/') && !first.contains('.') && repository.has(first)
        || text.contains('/') && ENDS.iter().any(|end| text.ends_with(end))
        || text.ends_with(".rs")
}

/// Whether the path exists: from the root, or at the end of the path of a file, as in
/// `health/check.rs`.
fn is_there(repository: &Repository, text: &str) -> bool {
    let text = text.trim_end_matches('/');
    let end = format!("/{text}");
    repository.has(text)
        || repository
            .files()
            .any(|file| file.path.ends_with(&end) || file.path.contains(&format!("{end}/")))
}

#[test]
fn links_are_found() {
    let line = "see [a](docs/A.md#b) and [c](https://example.org), ![d](d.svg)";
    assert_eq!(links(line), ["docs/A.md", "d.svg"]);
}
