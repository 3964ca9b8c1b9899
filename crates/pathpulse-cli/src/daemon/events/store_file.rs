//! The file with the last events, and the process that has it. See `state.rs`.
//!
//! Each line is a checksum and an event, or `taken` and which legs of a map we took out: the last of such
//! lines counts for each map, and those of another boot for none. New ones are appended; from time to
//! time the file is written anew beside itself and put into its place. A crash or a full disk can leave a
//! line that is not whole: it is left out when the file is read, and that is said once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::history::KEPT;

/// The file is written anew when so many lines are in it.
const LINES_MAX: usize = 4 * KEPT;
/// What is longer is not kept. Names of paths are 4 KiB at most.
const LINE_MAX: usize = 16 * 1024;
/// Maps with legs that we took out; of more no note is kept.
const TAKEN_MAX: usize = 16_384;
/// What is longer was not written by us.
const FILE_MAX: u64 = (LINES_MAX * LINE_MAX) as u64;

/// Which legs of a multipath map we took out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// While the kernel called itself so.
    pub(crate) boot: String,
    /// The map's uuid.
    pub(crate) map: String,
    /// The numbers of their devices; none: there are none any more.
    pub(crate) legs: BTreeSet<(u32, u32)>,
}

impl Taken {
    /// Whether maps may still be as they were then.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        !self.boot.is_empty() && self.boot == this_boot()
    }

    /// As the process hears and keeps it; `None` if it is too long for that.
    pub(crate) fn line(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        Some(TAKEN.to_owned() + &text).filter(|line| line.len() <= LINE_MAX)
    }
}

/// How a line begins that is no event: those are JSON.
const TAKEN: &str = "taken ";
/// What the process is told to have all on the disk that came before, and to say whether it is.
pub(crate) const SYNC: &str = "sync";

/// What the kernel calls this boot; nothing where it can't be asked.
pub(crate) fn this_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// What the process says, a line each.
#[derive(Debug, PartialEq)]
pub(crate) enum Said<'a> {
    /// An event that the file had.
    Past(&'a str),
    /// Which legs of a map we took out, as the file has it.
    Taken(&'a str),
    /// These were all.
    Ready,
    /// All is written that came before an empty line.
    Written,
    /// All is on the disk that came before [`SYNC`].
    Synced,
    /// Not all of it is.
    Unsynced,
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
            "taken" => Some(Said::Taken(rest)),
            "ready" => Some(Said::Ready),
            "written" => Some(Said::Written),
            "synced" => Some(Said::Synced),
            "unsynced" => Some(Said::Unsynced),
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
            Said::Taken(legs) => write!(f, "taken {legs}"),
            Said::Ready => f.write_str("ready "),
            Said::Written => f.write_str("written "),
            Said::Synced => f.write_str("synced "),
            Said::Unsynced => f.write_str("unsynced "),
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
pub(crate) struct Book<T> {
    path: PathBuf,
    /// The last events, for when the file is written anew.
    last: VecDeque<String>,
    /// The last word about each map that we took legs out of.
    taken: BTreeMap<String, String>,
    /// To append to; `None` when it has to be written anew.
    file: Option<File>,
    lines: usize,
    failed: bool,
    /// A note came that there is no room for: no [`SYNC`] succeeds from then on.
    refused: bool,
    tell: T,
}

impl<T: FnMut(Said<'_>)> Book<T> {
    pub(crate) fn open(path: PathBuf, mut tell: T) -> Book<T> {
        let mut kept = Vec::new();
        match read(&path) {
            Ok((lines, damaged)) => {
                if damaged > 0 {
                    let path = path.display();
                    let what = "are damaged and left out; a crash can do that";
                    tell(Said::Wrong(&format!("{path}: {damaged} lines {what}")));
                }
                kept = lines;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let what = format!("{}: {error}; starting without the past", path.display());
                tell(Said::Wrong(&what));
            }
        }
        let mut book = Book {
            path,
            last: VecDeque::new(),
            taken: BTreeMap::new(),
            file: None,
            lines: 0,
            failed: false,
            refused: false,
            tell,
        };
        for line in kept {
            book.remember(line);
        }
        for event in &book.last {
            (book.tell)(Said::Past(event));
        }
        for text in book.taken.values() {
            (book.tell)(Said::Taken(&text[TAKEN.len()..]));
        }
        (book.tell)(Said::Ready);
        book
    }

    pub(crate) fn keep(mut self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            if line.is_empty() {
                (self.tell)(Said::Written);
            } else if line == SYNC {
                let synced = self.sync();
                self.say(&synced);
                let all = synced.is_ok() && !self.refused;
                (self.tell)(if all { Said::Synced } else { Said::Unsynced });
            } else if line.len() <= LINE_MAX {
                let written = self.write(line);
                self.say(&written);
            }
        }
    }

    /// Has on the disk what it has in memory.
    fn sync(&mut self) -> io::Result<()> {
        let synced = match &self.file {
            Some(file) => file.sync_data(),
            None => self.write_anew(),
        };
        if synced.is_err() {
            // The kernel may have dropped what it could not write, and does not say so again.
            self.file = None;
        }
        synced
    }

    /// Has it in memory, for when the file is written anew.
    fn remember(&mut self, line: String) {
        let Some(text) = line.strip_prefix(TAKEN) else {
            if self.last.len() == KEPT {
                self.last.pop_front();
            }
            self.last.push_back(line);
            return;
        };
        let Ok(taken) = serde_json::from_str::<Taken>(text) else {
            return;
        };
        if taken.legs.is_empty() || !taken.is_of_this_boot() {
            self.taken.remove(&taken.map);
        } else if self.taken.len() < TAKEN_MAX || self.taken.contains_key(&taken.map) {
            self.taken.insert(taken.map, line);
        } else {
            self.refused = true;
        }
    }

    /// Appends, or writes all anew.
    fn write(&mut self, kept: String) -> io::Result<()> {
        let appended = line(&kept);
        self.remember(kept);
        let lines_max = LINES_MAX + 2 * self.taken.len();
        if let Some(file) = self.file.as_mut().filter(|_| self.lines < lines_max) {
            let appended = file.write_all(appended.as_bytes());
            self.lines += 1;
            if appended.is_ok() {
                return Ok(());
            }
        }
        // What it has may not be whole any more.
        self.file = None;
        self.write_anew()
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let all = self.last.iter().chain(self.taken.values());
        self.file = Some(write_anew(&self.path, all)?);
        self.lines = self.last.len() + self.taken.len();
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
fn write_anew<'a>(path: &Path, all: impl Iterator<Item = &'a String>) -> io::Result<File> {
    refuse_other(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let text: String = all.map(|kept| line(kept)).collect();
    match fs::remove_file(&new) {
        // A crash can leave one.
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Whoever may write to the folder must not choose what is written to: `create_new` follows no link.
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
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

/// What a file keeps, in order, and how many lines are damaged.
fn read(path: &Path) -> io::Result<(Vec<String>, usize)> {
    refuse_other(path)?;
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
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
            Said::Taken("{\"map\": 1}"),
            Said::Ready,
            Said::Written,
            Said::Synced,
            Said::Unsynced,
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
    fn the_last_word_about_each_map_survives_any_number_of_events() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        let taken = |boot: &str, map: &str, legs: &[(u32, u32)]| {
            let legs = legs.iter().copied().collect();
            let (boot, map) = (boot.to_owned(), map.to_owned());
            Taken { boot, map, legs }.line().expect("short")
        };
        let now = this_boot();
        let kept = [
            taken(&now, "mpath-a", &[(8, 0)]),
            taken(&now, "mpath-a", &[(8, 0), (65, 16)]),
            taken(&now, "mpath-b", &[(8, 32)]),
            taken(&now, "mpath-b", &[]),
            taken("another", "mpath-c", &[(8, 48)]),
            "taken by a fool".to_owned(),
        ];
        assert!(keep(&path, &kept).is_empty(), "none of it is an event");
        assert_eq!(keep(&path, &events(0..9_000)), events(8_000..9_000));
        let mut said = Vec::new();
        drop(Book::open(path.clone(), |what| {
            said.extend(matches!(what, Said::Taken(_)).then(|| what.to_string()));
        }));
        assert_eq!(said, [kept[1].clone()]);
        assert!(fs::metadata(&path).expect("there").len() < 1 << 17);
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
        // Nor is anything written through a link in the place of the file that is written anew.
        let path = folder.path().join("other");
        std::os::unix::fs::symlink(&precious, folder.path().join("other.new")).expect("linked");
        assert_eq!(keep(&path, &events(0..3)), events(0..3));
        assert_eq!(fs::read(&precious).expect("there"), b"data");
        assert!(!folder.path().join("other.new").exists());
    }

    #[test]
    fn it_is_told_whether_all_is_on_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("place/events");
        fs::write(folder.path().join("place"), "in the way").expect("written");
        let lines = format!("{{}}\n{SYNC}\n");
        let answers = |lines: &str| {
            let mut said = Vec::new();
            Book::open(path.clone(), |what| {
                let answer = matches!(what, Said::Synced | Said::Unsynced);
                said.extend(answer.then(|| what.to_string()));
            })
            .keep(lines.as_bytes());
            said
        };
        assert_eq!(answers(&lines), ["unsynced "]);
        fs::remove_file(folder.path().join("place")).expect("removed");
        assert_eq!(answers(&lines.repeat(2)), ["synced ", "synced "]);
    }
}
