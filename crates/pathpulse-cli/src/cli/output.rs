//! Writing to stdout and stderr so that a closed pipe is no panic, and what tables look like.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use ratatui::crossterm::style::force_color_output;

use crate::human::want_styles;
pub(crate) use crate::human::{
    age, is_dumb, is_styled, latency, printable, shorten_all, size, wrap,
};

/// Of a terminal that does not say how wide it is.
const WIDTH: u16 = 80;

/// Writes text to stdout; `false` if nobody reads it any more, which is no error. Any other problem,
/// such as a full disk, is one ([`write_failure`]).
pub(crate) fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    let written = written.and_then(|()| stdout.flush());
    record_write(&written);
    written.is_ok()
}

/// Why not all could be written to stdout: the first problem, for the end of the command.
static PROBLEM: OnceLock<String> = OnceLock::new();

/// Takes note of how writing to stdout went.
pub(crate) fn record_write(written: &io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = PROBLEM.set(format!("stdout: {error}; not all was written"));
    }
}

/// Why not all could be written to stdout, unless its reader just went away.
pub(crate) fn write_failure() -> Option<&'static str> {
    PROBLEM.get().map(String::as_str)
}

/// Writes a document to stdout as one line of JSON.
pub(crate) fn print_json(document: &impl serde::Serialize) -> bool {
    let mut text = serde_json::to_string(document).unwrap_or_default();
    text.push('\n');
    print(&text)
}

/// Writes one line to stderr: what, where, what to do.
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

/// Takes what the command line says.
pub(crate) fn set_color(color: ColorWhen) {
    match color {
        ColorWhen::Auto => {}
        ColorWhen::Never => want_styles(false),
        ColorWhen::Always => {
            want_styles(true);
            // Else what makes the tables heeds NO_COLOR by itself.
            force_color_output(true);
        }
    }
}

/// An empty table with these headings. It has colours on a terminal only, and is as wide as it wants
/// elsewhere: what is in it can be searched for.
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

/// The columns of the terminal that stdout is; `None` if it is none.
pub(crate) fn columns_of_terminal() -> Option<u16> {
    // Some terminals say that they have no columns at all.
    let is_usable = |width: &u16| *width >= WIDTH / 2;
    let width = Table::new().width().filter(is_usable);
    io::stdout().is_terminal().then(|| width.unwrap_or(WIDTH))
}

/// The table as text, without blanks at the ends of lines.
pub(crate) fn render(table: &Table) -> String {
    table.trim_fmt() + "\n"
}

/// A state, in the colour of how good that is.
pub(crate) fn state_cell(state: &str) -> Cell {
    let cell = Cell::new(state);
    match state {
        "up" => cell.fg(Color::Green),
        "down" => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        "marginal" | "overdue" => cell.fg(Color::Yellow),
        _ => cell,
    }
}
