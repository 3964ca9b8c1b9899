//! Lines that fit on a screen.

use crate::known::Violation;
use crate::repository::{File, Repository};

/// Columns of a line with a comment.
const COMMENT_MAX: usize = 100;
/// Columns of a line of prose.
const PROSE_MAX: usize = 120;

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in repository.files() {
        let (wide, max) = match file.path.rsplit_once('.').map(|(_, end)| end) {
            Some("rs") => (wide_in_rust(file), COMMENT_MAX),
            Some("md") => (wide_in_prose(file), PROSE_MAX),
            Some("sh" | "toml") => (wide_in_script(file), COMMENT_MAX),
            _ if file.text.starts_with("#!") => (wide_in_script(file), COMMENT_MAX),
            _ => continue,
        };
        for (number, columns) in wide {
            let what = format!("{columns} columns; break the line, {max} are the most");
            violations.push(Violation::new(&file.path, number, what));
        }
    }
    violations
}

/// The numbers and widths of lines with comments. Rows of tables can't be broken.
fn wide_in_rust(file: &File) -> Vec<(usize, usize)> {
    let lines = file.text.lines().zip(file.lines()).enumerate();
    let lines = lines.filter(|(_, (_, line))| {
        let comment = line.comment.trim_start_matches(['/', '!', ' ']);
        !comment.is_empty() && !comment.starts_with('|')
    });
    wide(
        lines.map(|(number, (text, _))| (number + 1, text)),
        COMMENT_MAX,
    )
}

fn wide_in_script(file: &File) -> Vec<(usize, usize)> {
    let lines = file.text.lines().enumerate();
    let comments = lines.filter(|(_, line)| line.trim_start().starts_with('#'));
    wide(
        comments.map(|(number, line)| (number + 1, line)),
        COMMENT_MAX,
    )
}

/// Prose is what is no code, no row of a table and no picture.
fn wide_in_prose(file: &File) -> Vec<(usize, usize)> {
    let mut is_code = false;
    let lines = file.text.lines().enumerate().filter(|(_, line)| {
        let fence = line.trim_start().starts_with("```");
        is_code ^= fence;
        !fence && !is_code && !line.starts_with(['|', '!']) && !line.starts_with("    ")
    });
    wide(lines.map(|(number, line)| (number + 1, line)), PROSE_MAX)
}

fn wide<'a>(lines: impl Iterator<Item = (usize, &'a str)>, max: usize) -> Vec<(usize, usize)> {
    let widths = lines.map(|(number, line)| (number, line.chars().count()));
    widths.filter(|(_, columns)| *columns > max).collect()
}
