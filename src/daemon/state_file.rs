//! The file with the last events, and the process that has it. See `state.rs`.
//!
//! Each line is a checksum and an event. New ones are appended; from time to time the file is written
//! anew beside itself and put into its place. A crash or a full disk can leave a line that is not whole:
//! it is left out when the file is read, and that is said once.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::history::KEPT;

/// The file is written anew when so many lines are in it.
const LINES_MAX: usize = 4 * KEPT;
/// What is longer is not kept. Names of paths are 4 KiB at most.
const LINE_MAX: usize = 16 * 1024;
/// What is longer was not written by us.
const FILE_MAX: u64 = (LINES_MAX * LINE_MAX) as u64;

/// What the process says, a line each.
#[derive(Debug, PartialEq)]
pub(crate) enum Said<'a> {
    /// An event that the file had.
    Past(&'a str),
    /// These were all.
    Ready,
    /// All is written that came before an empty line.
    Written,
    /// What is wrong with the file.
    Wrong(&'a str),
    /// What is right again.
    Mended(&'a str),
}

impl<'a> Said<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Said<'a>> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "past" => Some(Said::Past(rest)),
            "ready" => Some(Said::Ready),
            "written" => Some(Said::Written),
            "wrong" => Some(Said::Wrong(rest)),
            "mended" => Some(Said::Mended(rest)),
            _ => None,
        }
    }
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Past(event) => write!(f, "past {event}"),
            Said::Ready => f.write_str("ready "),
            Said::Written => f.write_str("written "),
            Said::Wrong(what) => write!(f, "wrong {what}"),
            Said::Mended(what) => write!(f, "mended {what}"),
        }
    }
}

/// Has the file at `path`: says what is in it, then keeps what comes, until no more does.
pub(crate) fn keep_events(path: PathBuf) {
    // Whoever started this may be gone; then there is nobody to tell, and soon nothing to keep.
    Book::open(path, |said| drop(writeln!(io::stdout(), "{said}"))).keep(io::stdin().lock());
}

/// The file, and what is in it.
struct Book<T> {
    path: PathBuf,
    /// The last events, for when the file is written anew.
    last: VecDeque<String>,
    /// To append to; `None` when it has to be written anew.
    file: Option<File>,
    lines: usize,
    failed: bool,
    tell: T,
}

impl<T: FnMut(Said<'_>)> Book<T> {
    fn open(path: PathBuf, mut tell: T) -> Book<T> {
        let mut last = VecDeque::new();
        match read(&path) {
            Ok((events, damaged)) => {
                if damaged > 0 {
                    let path = path.display();
                    let what = "are damaged and left out; a crash can do that";
                    tell(Said::Wrong(&format!("{path}: {damaged} lines {what}")));
                }
                let skip = events.len().saturating_sub(KEPT);
                last.extend(events.into_iter().skip(skip));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let what = format!("{}: {error}; starting without the past", path.display());
                tell(Said::Wrong(&what));
            }
        }
        for event in &last {
            tell(Said::Past(event));
        }
        tell(Said::Ready);
        Book {
            path,
            last,
            file: None,
            lines: 0,
            failed: false,
            tell,
        }
    }

    fn keep(mut self, events: impl BufRead) {
        for event in events.lines().map_while(Result::ok) {
            if event.is_empty() {
                (self.tell)(Said::Written);
            } else if event.len() <= LINE_MAX {
                if self.last.len() == KEPT {
                    self.last.pop_front();
                }
                let written = self.write(event);
                self.say(&written);
            }
        }
    }

    /// Appends, or writes all anew.
    fn write(&mut self, event: String) -> io::Result<()> {
        let appended = line(&event);
        self.last.push_back(event);
        if let Some(file) = self.file.as_mut().filter(|_| self.lines < LINES_MAX) {
            let appended = file.write_all(appended.as_bytes());
            self.lines += 1;
            if appended.is_ok() {
                return Ok(());
            }
        }
        // What it has may not be whole any more.
        self.file = None;
        self.file = Some(write_anew(&self.path, &self.last)?);
        self.lines = self.last.len();
        Ok(())
    }

    /// Says once that the file can't be written, and once that it can again.
    fn say(&mut self, written: &io::Result<()>) {
        let path = self.path.display();
        if let Err(error) = written
            && !self.failed
        {
            let what = "events are kept in memory only until that is mended";
            (self.tell)(Said::Wrong(&format!("{path}: {error}; {what}")));
        } else if written.is_ok() && self.failed {
            (self.tell)(Said::Mended(&format!("{path}: events are kept again")));
        }
        self.failed = written.is_err();
    }
}

/// Writes another file and puts it into the place of the old one, which stays as it is until then.
fn write_anew(path: &Path, events: &VecDeque<String>) -> io::Result<File> {
    refuse_other(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let text: String = events.iter().map(|event| line(event)).collect();
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o640)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// A state file named by mistake must not cost anyone a disk.
fn refuse_other(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => Err(io::Error::other("is no regular file, and left alone")),
        _ => Ok(()),
    }
}

/// The events of a file in order, and how many lines are no events.
fn read(path: &Path) -> io::Result<(Vec<String>, usize)> {
    refuse_other(path)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let (mut events, mut damaged) = (Vec::new(), 0);
    for line in lines {
        match parse(line) {
            Some(event) => events.push(event.to_owned()),
            None => damaged += 1,
        }
    }
    Ok((events, damaged))
}

fn line(event: &str) -> String {
    format!("{:08x} {event}\n", crc32fast::hash(event.as_bytes()))
}

fn parse(line: &[u8]) -> Option<&str> {
    let (sum, event) = str::from_utf8(line).ok()?.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (crc32fast::hash(event.as_bytes()) == sum).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("{{\"n\":{n}}}")).collect()
    }

    /// Keeps these events, and returns what a daemon after that finds.
    fn keep(path: &Path, new: &[String]) -> Vec<String> {
        let new = new.join("\n");
        Book::open(path.to_owned(), |_| ()).keep(new.as_bytes());
        Book::open(path.to_owned(), |_| ()).last.into()
    }

    #[test]
    fn what_is_said_is_understood() {
        for said in [
            Said::Past("{\"a\": 1}"),
            Said::Ready,
            Said::Written,
            Said::Wrong("a b"),
            Said::Mended("c"),
        ] {
            assert_eq!(Said::parse(&said.to_string()), Some(said));
        }
        assert_eq!(Said::parse("panicked at"), None);
    }

    #[test]
    fn the_last_events_survive_and_the_file_stays_small() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/events");
        assert_eq!(keep(&path, &events(0..10)), events(0..10));
        assert_eq!(keep(&path, &events(10..20)), events(0..20));
        assert_eq!(keep(&path, &events(20..9_000)), events(8_000..9_000));
        let text = fs::read_to_string(&path).expect("there");
        assert!(text.lines().count() <= LINES_MAX);
    }

    #[test]
    fn a_file_cut_anywhere_keeps_what_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        keep(&path, &events(0..5));
        let whole = fs::read(&path).expect("there");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            let (found, damaged) = read(&path).expect("read");
            assert_eq!(found, events(0..found.len()));
            assert!(damaged <= 1);
            // And what is kept after that is whole again.
            let begun = found.len();
            let mut all = found;
            all.extend(events(7..9));
            assert_eq!(
                keep(&path, &events(7..9)),
                all,
                "cut at {cut}, {begun} left"
            );
        }
    }

    #[test]
    fn damage_costs_the_line_that_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        keep(&path, &events(0..5));
        let whole = fs::read(&path).expect("there");
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x80;
            fs::write(&path, &bytes).expect("written");
            let (found, damaged) = read(&path).expect("read");
            assert!(found.len() >= 3 && damaged >= 1, "{place}: {found:?}");
            assert!(found.iter().all(|event| events(0..5).contains(event)));
        }
        fs::write(&path, b"\0\xff\n\n 12345678 x\n").expect("written");
        assert_eq!(read(&path).expect("read").0.len(), 0);
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let precious = folder.path().join("precious");
        fs::write(&precious, "data").expect("written");
        let link = folder.path().join("events");
        std::os::unix::fs::symlink(&precious, &link).expect("linked");
        assert!(keep(&link, &events(0..3)).is_empty());
        assert_eq!(fs::read(&precious).expect("there"), b"data");
        assert!(refuse_other(Path::new("/dev/null")).is_err());
    }
}
