//! The files that git tracks, and their text.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, io};

use crate::lexer::{Line, split};

/// The tracked text files of the project.
pub(crate) struct Repository {
    /// All tracked files, pictures included.
    paths: Vec<String>,
    files: Vec<File>,
}

/// A text file.
pub(crate) struct File {
    /// From the root of the repository, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
    lines: OnceLock<Vec<Line>>,
}

impl Repository {
    /// Reads all tracked files.
    pub(crate) fn open() -> Result<Repository, String> {
        let paths = tracked().map_err(|error| format!("git ls-files: {error}"))?;
        let mut files = Vec::new();
        for path in &paths {
            // A file that was removed but not committed yet is tracked, too; and pictures are no
            // text.
            if let Ok(text) = fs::read_to_string(root().join(path)) {
                files.push(File {
                    path: path.clone(),
                    text,
                    lines: OnceLock::new(),
                });
            }
        }
        Ok(Repository { paths, files })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// The files with this at the end of their names.
    pub(crate) fn ending(&self, end: &str) -> impl Iterator<Item = &File> {
        self.files().filter(move |file| file.path.ends_with(end))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files().find(|file| file.path == path)
    }

    /// Whether a tracked file has this path, or is below a folder with it.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.paths.iter().any(|tracked| {
            let rest = tracked.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Whether only tests are compiled with this module: its parent, or the parent of that, says
    /// so.
    pub(crate) fn is_test_module(&self, file: &File) -> bool {
        let mut path = Path::new(&file.path);
        loop {
            let name = path.file_stem().and_then(|name| name.to_str());
            let (Some(name), Some(folder)) = (name, path.parent()) else {
                return false;
            };
            let name = if name == "mod" {
                folder
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default()
            } else {
                name
            };
            let folder = if path.ends_with("mod.rs") {
                folder.parent()
            } else {
                Some(folder)
            };
            let Some(folder) = folder.and_then(Path::to_str) else {
                return false;
            };
            let candidates = [
                format!("{folder}/mod.rs"),
                format!("{folder}.rs"),
                format!("{folder}/lib.rs"),
            ];
            let parent = candidates
                .iter()
                .filter(|parent| **parent != file.path)
                .find_map(|parent| self.file(parent));
            let Some(parent) = parent else {
                return false;
            };
            if parent.text.contains(&format!("#[cfg(test)]\nmod {name};"))
                || parent
                    .text
                    .contains(&format!("#[cfg(test)]\npub(crate) mod {name};"))
            {
                return true;
            }
            if parent.path.ends_with("/lib.rs") {
                return false;
            }
            path = Path::new(&parent.path);
        }
    }
}

impl File {
    /// Its lines as code and comments; for Rust.
    pub(crate) fn lines(&self) -> &[Line] {
        self.lines.get_or_init(|| split(&self.text))
    }

    /// The places of the lines that are not in a module of tests.
    pub(crate) fn lines_without_tests(&self) -> Vec<usize> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut places = Vec::new();
        let mut is_test = false;
        for (place, line) in lines.iter().enumerate() {
            let next = lines.get(place + 1).copied().unwrap_or_default();
            is_test |= *line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{');
            if !is_test {
                places.push(place);
            }
            is_test &= *line != "}";
        }
        places
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tracked() -> io::Result<Vec<String>> {
    let mut git = Command::new("git");
    // Whoever runs the tests need not own the files: nothing here runs what the repository
    // configures.
    git.args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root());
    let output = git.output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(message.trim().to_owned()));
    }
    let paths = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(paths.split_terminator('\0').map(str::to_owned).collect())
}
