//! Reversible escaping of path names.
//!
//! A name is a sequence of bytes. Each of its parts may contain every byte except 0 and the slash.
//! All output as text (JSON, tables, log lines, metric labels, queries) uses this form. It is plain
//! text on one line, keeps all bytes, and equals the name itself for nearly all names:
//!
//! | in the name | as text |
//! |---|---|
//! | `\` | `\\` |
//! | a line feed, a carriage return, a tab | `\n`, `\r`, `\t` |
//! | other control characters, characters that change the text direction, bytes that are not UTF-8 | `\xNN` for each byte, two lower-case digits |
//! | everything else | unchanged |

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Formats a name as text on one line. [`parse_name`] restores its bytes.
///
/// ```
/// let name = std::path::Path::new("/mnt/back\\up\n1");
/// let text = pathpulse::display_name(name).to_string();
/// assert_eq!(text, r"/mnt/back\\up\n1");
/// assert_eq!(pathpulse::parse_name(&text).as_deref(), Some(name));
/// ```
pub fn display_name(name: &Path) -> DisplayName<'_> {
    DisplayName(name.as_os_str())
}

/// See [`display_name`].
#[derive(Clone, Copy, Debug)]
pub struct DisplayName<'a>(&'a OsStr);

impl Display for DisplayName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str(r"\\")?,
                    '\n' => f.write_str(r"\n")?,
                    '\r' => f.write_str(r"\r")?,
                    '\t' => f.write_str(r"\t")?,
                    c if is_unprintable(c) => {
                        escape_bytes(f, c.encode_utf8(&mut [0; 4]).as_bytes())?;
                    }
                    c => f.write_char(c)?,
                }
            }
            escape_bytes(f, chunk.invalid())?;
        }
        Ok(())
    }
}

/// Whether a character controls a terminal, ends a line, or changes the text direction.
pub fn is_unprintable(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

fn escape_bytes(f: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, r"\x{byte:02x}"))
}

/// Restores the name from such a text. `None` if the text has a backslash without an escape, or
/// `\x00`, which no name contains. Upper-case digits and needless escapes are accepted.
pub fn parse_name(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        bytes.push(match kind {
            b'\\' => b'\\',
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digit = |place: usize| char::from(digits[place]).to_digit(16);
                let byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
                Some(byte).filter(|byte| *byte != 0)?
            }
            _ => return None,
        });
    }
    Some(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> PathBuf {
        OsStr::from_bytes(bytes).into()
    }

    fn text(bytes: &[u8]) -> String {
        display_name(&name(bytes)).to_string()
    }

    #[test]
    fn names_become_text_on_one_line() {
        for (bytes, expected) in [
            (&b"/dev/sda"[..], "/dev/sda"),
            ("/mnt/ä 磁".as_bytes(), "/mnt/ä 磁"),
            (b"/mnt/a\xff\xe4b", r"/mnt/a\xff\xe4b"),
            (b"a\n\r\t\x1b[31m\x7f", r"a\n\r\t\x1b[31m\x7f"),
            (br"/dev/disk/by-label/A\x20B", r"/dev/disk/by-label/A\\x20B"),
            ("a\u{202e}b\u{85}".as_bytes(), r"a\xe2\x80\xaeb\xc2\x85"),
            // An incomplete character.
            (b"\xe2\x80", r"\xe2\x80"),
        ] {
            assert_eq!(text(bytes), expected);
        }
    }

    #[test]
    fn every_name_is_restored_and_no_two_texts_are_equal() {
        // All names of up to three of these bytes: each begins, continues or ends an escape or a
        // character.
        let bytes = b"\\nx0aF/\n\x1b\x80\xc2\xe2\xae\xff";
        let mut names: Vec<Vec<u8>> = vec![Vec::new()];
        for length in 0..3 {
            let longer: Vec<Vec<u8>> = (names.iter().filter(|name| name.len() == length))
                .flat_map(|name| bytes.iter().map(|byte| [&name[..], &[*byte]].concat()))
                .collect();
            names.extend(longer);
        }
        names.extend((1..=u8::MAX).map(|byte| vec![byte]));
        names.sort();
        names.dedup();
        let mut texts: Vec<String> = names.iter().map(|bytes| text(bytes)).collect();
        for (bytes, text) in names.iter().zip(&texts) {
            assert_eq!(parse_name(text), Some(name(bytes)), "{text}");
            assert!(!text.chars().any(is_unprintable), "{text}");
        }
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), names.len());
    }

    #[test]
    fn invalid_escapes_are_refused() {
        for text in [r"a\", r"a\q", r"a\x", r"a\x1", r"a\x1g", r"a\x00", r"a\xä"] {
            assert_eq!(parse_name(text), None, "{text}");
        }
        assert_eq!(parse_name(r"\x2Fdev\x2fsda"), Some("/dev/sda".into()));
    }
}
