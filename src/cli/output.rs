//! Writing to stdout and stderr so that a closed pipe is no panic, and what tables look like.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// Tables fit this width, unless the terminal has more.
const WIDTH: u16 = 80;

/// Writes text to stdout; `false` if nobody reads it any more, which is no error.
pub(crate) fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// Writes a document to stdout as one line of JSON.
pub(crate) fn print_json(document: &impl serde::Serialize) -> bool {
    let mut text = serde_json::to_string(document).unwrap_or_default();
    text.push('\n');
    print(&text)
}

/// Writes one line to stderr: what, where, what to do.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "pathpulse: {}", printable(message));
}

/// Text without control characters: names of paths may hold any.
pub(crate) fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| {
                let escaped = c.is_control().then(|| c.escape_default());
                let plain = (!c.is_control()).then_some(c);
                escaped.into_iter().flatten().chain(plain)
            })
            .collect()
    } else {
        text.to_owned()
    }
}

/// An empty table with these headings. It has colours on a terminal only.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(
            headings
                .iter()
                .map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)),
        );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // Some terminals say that they have no columns at all.
    let is_usable = |width| width >= WIDTH / 2;
    if !io::stdout().is_terminal() || !table.width().is_some_and(is_usable) {
        table.set_width(WIDTH);
    }
    table
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
        "marginal" => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// A latency in microseconds with three digits and a unit.
pub(crate) fn latency(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..10_000 => format!("{:.1}ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

/// A size in bytes with up to four digits and a unit.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = units[0];
    for next in &units[1..] {
        // What would be rounded up to 1024 has the next unit.
        if size < 1023.5 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if size < 9.95 {
        format!("{size:.1} {unit}")
    } else {
        format!("{size:.0} {unit}")
    }
}

/// An age in seconds with its largest one or two units.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(printable("/dev/sda"), "/dev/sda");
        assert_eq!(printable("/tmp/ä\n\x1b[31m"), "/tmp/ä\\n\\u{1b}[31m");
    }

    #[test]
    fn numbers_are_short() {
        let latencies = [85, 1_250, 12_345, 1_500_000].map(latency);
        assert_eq!(latencies, ["85us", "1.2ms", "12ms", "1.5s"]);
        let sizes = [512, 1 << 20, 5 << 29, (1 << 40) - 1, 100 << 40].map(size);
        assert_eq!(sizes, ["512 B", "1.0 MiB", "2.5 GiB", "1.0 TiB", "100 TiB"]);
        let ages = [5, 65, 3_700, 90_000].map(age);
        assert_eq!(ages, ["5s", "1m05s", "1h01m", "1d01h"]);
    }
}
