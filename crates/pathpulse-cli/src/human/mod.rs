//! Numbers and names for people, the same in tables, on screens and on the status page.

mod shorten;
mod styled;

use std::collections::HashMap;

use jiff::Timestamp;
use pathpulse::is_unprintable;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(crate) use shorten::{shorten, shorten_all};
pub(crate) use styled::{is_dumb, is_styled, want_styles};

/// Stands for the part of a name that is left out.
const GAP: &str = "…";
/// The number of names that are written out of a long list.
const NAMED: usize = 3;

/// Text on one line, without characters that control a terminal or change the writing direction.
/// Names of paths have none ([`pathpulse::display_name`]); other texts may have.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str(r"\n"),
            '\r' => safe.push_str(r"\r"),
            '\t' => safe.push_str(r"\t"),
            c if is_unprintable(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    safe += &format!(r"\x{byte:02x}");
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Whether a list is so long that only some names are written out.
pub(crate) fn is_many(names: usize) -> bool {
    names > NAMED + 1
}

/// All names of a short list; of a long list the first names and the number of others.
pub(crate) fn some_of(names: &[impl AsRef<str>]) -> String {
    let list = |names: &[_]| {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        names.join(", ")
    };
    match is_many(names.len()) {
        false => list(names),
        true => format!("{} and {} more", list(&names[..NAMED]), names.len() - NAMED),
    }
}

/// Each message once, in order, with the names that it is about.
fn group<'a>(
    said: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (Vec<&'a str>, &'a str)> {
    let mut places = HashMap::new();
    let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
    for (name, message) in said {
        let place = *places.entry(message).or_insert(groups.len());
        if place == groups.len() {
            groups.push((Vec::new(), message));
        }
        groups[place].0.push(name);
    }
    groups.into_iter()
}

/// Each message once, in order, with the names that it is about as text.
pub(crate) fn by_message<'a>(
    said: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, &'a str)> {
    let groups = group(said);
    groups
        .map(|(names, message)| (some_of(&names), message))
        .collect()
}

/// A line per name with its message; one line if many names have the same message.
pub(crate) fn message_lines<'a>(said: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let groups = group(said);
    let lines = groups.flat_map(|(names, message)| match is_many(names.len()) {
        true => vec![format!("{}: {message}", some_of(&names))],
        false => names
            .iter()
            .map(|name| format!("{name}: {message}"))
            .collect(),
    });
    lines.collect()
}

/// The beginning of a text, as much as fits.
pub(crate) fn clip(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    fitting(text.chars(), columns.saturating_sub(1)) + GAP
}

/// A printable text in lines of at most this many columns (at least ten). All lines but the first
/// are indented. Words that are longer than a line are broken.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    const INDENT: &str = "    ";
    let columns = columns.max(10);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for mut word in text.split(' ') {
        loop {
            let is_empty = line.trim_start().is_empty();
            let gap = if is_empty { "" } else { " " };
            let room = columns.saturating_sub(line.width() + gap.len());
            if word.width() <= room {
                line = line + gap + word;
                break;
            }
            if is_empty {
                let part = fitting(word.chars(), room);
                word = &word[part.len()..];
                line += &part;
            }
            lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
        }
    }
    lines.push(line);
    lines
}

/// As many characters as fit.
fn fitting(characters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
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
        // A value that would be rounded up to 1024 gets the next unit.
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

/// Seconds since a time of a document, by this machine's clock; 0 for a time in the future.
pub(crate) fn since(time: &str) -> Option<u64> {
    let since: Timestamp = time.parse().ok()?;
    let seconds = Timestamp::now().as_second() - since.as_second();
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// Which thread submits a path's reads: the one of all paths, or its own.
pub(crate) fn submission(isolated: bool) -> &'static str {
    match isolated {
        true => "thread",
        false => "shared",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(printable("/dev/sda"), "/dev/sda");
        assert_eq!(printable("/tmp/ä\n\x1b[31m"), "/tmp/ä\\n\\x1b[31m");
        assert_eq!(printable("a\u{202e}b"), "a\\xe2\\x80\\xaeb");
    }

    #[test]
    fn texts_are_broken_between_words_if_that_is_possible_and_nothing_is_lost() {
        let lines = wrap("/dev/nowhere: open: ENOENT: no such file", 20);
        let expected = ["/dev/nowhere: open:", "    ENOENT: no such", "    file"];
        assert_eq!(lines, expected);
        assert_eq!(wrap("as it is", 80), ["as it is"]);
        assert_eq!(wrap("", 80), [""]);
        let texts = [
            "/dev/disk/by-path/pci-0000:00:1f.2-fc-0x5005: open: ENXIO",
            "a 磁盘磁盘磁盘磁盘磁盘磁盘磁盘磁盘 b",
            "x e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
        ];
        for (text, columns) in texts
            .iter()
            .flat_map(|text| (10..70).map(move |n| (text, n)))
        {
            let lines = wrap(text, columns);
            assert!(
                lines.iter().all(|line| line.width() <= columns),
                "{lines:?}"
            );
            let without_blanks = |text: &str| text.replace(' ', "");
            assert_eq!(without_blanks(&lines.concat()), without_blanks(text));
        }
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

    #[test]
    fn the_same_of_many_is_one_line_and_of_a_few_a_line_each() {
        let names: Vec<String> = (1..=5).map(|n| format!("/dev/{n}")).collect();
        let few = || names[..4].iter().map(|name| (&**name, "a"));
        let other = std::iter::once(("/dev/x", "b"));
        let lines = message_lines(few().chain(other));
        let expected = [
            "/dev/1: a",
            "/dev/2: a",
            "/dev/3: a",
            "/dev/4: a",
            "/dev/x: b",
        ];
        assert_eq!(lines, expected);
        let many = names.iter().map(|name| (&**name, "a"));
        let line = "/dev/1, /dev/2, /dev/3 and 2 more: a";
        assert_eq!(message_lines(many), [line]);
    }
}
