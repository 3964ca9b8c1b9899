//! Writes to stdout and stderr without panics at closed pipes, and defines the style of tables.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use ratatui::crossterm::style::force_color_output;

use crate::human::want_styles;
pub(crate) use crate::human::{
    age, is_dumb, is_styled, latency, printable, shorten_all, size, wrap,
};

/// Width of a terminal that does not report its width.
const WIDTH: u16 = 80;

/// Writes text to stdout; `false` if that failed. A closed pipe is not an error; other failures,
/// such as a full disk, make the command fail ([`write_failure`]).
pub(crate) fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    let written = written.and_then(|()| stdout.flush());
    record_write(&written);
    written.is_ok()
}

/// The first failure to write to stdout, for the end of the command.
static PROBLEM: OnceLock<String> = OnceLock::new();

/// Records the result of a write to stdout.
pub(crate) fn record_write(written: &io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = PROBLEM.set(format!("stdout: {error}; not all was written"));
    }
}

/// Why stdout is incomplete, unless its reader closed the pipe.
pub(crate) fn write_failure() -> Option<&'static str> {
    PROBLEM.get().map(String::as_str)
}

/// Writes a document to stdout as one line of JSON.
pub(crate) fn print_json(document: &impl serde::Serialize) -> bool {
    let mut text = serde_json::to_string(document).unwrap_or_default();
    text.push('\n');
    print(&text)
}

/// Writes one line to stderr; it should say what is wrong, where, and what to do.
pub(crate) fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "pathpulse: {}", printable(message));
}

/// When colours and styles are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless TERM is dumb or NO_COLOR is set
    Auto,
    /// Everywhere, also in pipes and files
    Always,
    /// Nowhere
    Never,
}

/// Applies `--color`.
pub(crate) fn set_color(color: ColorWhen) {
    match color {
        ColorWhen::Auto => {}
        ColorWhen::Never => want_styles(false),
        ColorWhen::Always => {
            want_styles(true);
            // Without this, the crate of the tables obeys NO_COLOR.
            force_color_output(true);
        }
    }
}

/// An empty table with these headings. It fits the terminal; elsewhere its cells are complete, so
/// that programs can search in them.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(
        headings
            .iter()
            .map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if is_styled(&io::stdout()) {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    match columns_of_terminal() {
        Some(columns) => {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(columns);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table
}

/// The columns of the terminal of stdout; `None` if stdout is not a terminal.
pub(crate) fn columns_of_terminal() -> Option<u16> {
    // Some terminals report that they have no columns.
    let is_usable = |width: &u16| *width >= WIDTH / 2;
    let width = Table::new().width().filter(is_usable);
    io::stdout().is_terminal().then(|| width.unwrap_or(WIDTH))
}

/// The table as text, without trailing blanks.
pub(crate) fn render(table: &Table) -> String {
    table.trim_fmt() + "\n"
}

/// A state in its colour.
pub(crate) fn state_cell(state: &str) -> Cell {
    let cell = Cell::new(state);
    match state {
        "up" => cell.fg(Color::Green),
        "down" => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        "marginal" | "overdue" => cell.fg(Color::Yellow),
        _ => cell,
    }
}
