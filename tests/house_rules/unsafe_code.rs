//! `unsafe` only where it belongs, and a compiler that refuses it elsewhere.

use crate::known::Violation;
use crate::repository::{File, Repository};
use crate::words::identifiers;

/// Where `unsafe` may be: what talks to the kernel or to C, and nothing else.
const ALLOWED: [&str; 8] = [
    "kernel-compat/",
    "capi/",
    "crates/capi/",
    "multipath/",
    "crates/multipath/",
    // Contenders that use the kernel as others do.
    "crates/bench/src/legacy/",
    "crates/bench/src/baseline",
    "crates/faultdisk/src/loopdev.rs",
];

/// Roots of crates that have other attributes, and these.
const OTHER_ROOTS: [(&str, &str); 2] = [
    ("crates/faultdisk/src/lib.rs", "#![deny(unsafe_code)]"),
    ("crates/bench/src/lib.rs", ""),
];

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in repository.ending(".rs").filter(|file| !is_allowed(file)) {
        for (number, line) in file.lines().iter().enumerate() {
            if identifiers(&line.code).any(|word| word == "unsafe") {
                let what = "unsafe code; move it to kernel-compat, behind a safe function";
                violations.push(Violation::new(&file.path, number + 1, what));
            }
        }
        let attribute = OTHER_ROOTS.iter().find(|(path, _)| *path == file.path);
        let attribute = attribute.map_or("#![forbid(unsafe_code)]", |(_, attribute)| attribute);
        if is_root(repository, file) && !file.text.contains(attribute) {
            let what = format!("the root of a crate without unsafe code; add {attribute}");
            violations.push(Violation::new(&file.path, 0, what));
        }
    }
    violations
}

fn is_allowed(file: &File) -> bool {
    ALLOWED.iter().any(|allowed| file.path.starts_with(allowed))
}

/// Whether this is the root of a library, a program or an example. Tests are judged by their code
/// alone.
fn is_root(repository: &Repository, file: &File) -> bool {
    let package = |folder: &str| {
        repository
            .file(format!("{folder}/Cargo.toml").trim_start_matches('/'))
            .is_some()
    };
    let Some((folder, name)) = file.path.rsplit_once('/') else {
        return false;
    };
    match folder.rsplit_once('/').unwrap_or(("", folder)) {
        (above, "src") => matches!(name, "lib.rs" | "main.rs") && package(above),
        (above, "examples") => package(above),
        _ => false,
    }
}
