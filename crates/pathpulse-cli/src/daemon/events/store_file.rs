//! The file with the last events, and the process that owns it. See `store.rs`.
//!
//! A line is a checksum and an event, or a checksum, `taken` and the paths of a map that we took
//! out. The last `taken` line of each map is valid, if it is from this boot. New lines are
//! appended; from time to time the file is rewritten under another name and renamed. A crash or a
//! full disk can leave an incomplete line: it is ignored when the file is read, with one message.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::history::EVENTS_KEPT;
use super::store_lines::{FAILED_PATHS_PREFIX, FailedPaths, LINE_MAX, SYNC, StoreReply};

/// The file is rewritten when it has this many lines.
const LINES_MAX: usize = 4 * EVENTS_KEPT;
/// The number of maps about which a note is kept.
const FAILED_PATHS_MAX: usize = 16_384;
/// A longer file was not written by us.
const FILE_MAX: u64 = (LINES_MAX * LINE_MAX) as u64;

/// Owns the file at `path`: writes its content to stdout, then keeps the lines from stdin until its
/// end.
pub(crate) fn keep_events(path: PathBuf) {
    // If the daemon is gone, stdout has no reader and stdin ends soon.
    EventFile::open(path, |said| drop(writeln!(io::stdout(), "{said}"))).keep(io::stdin().lock());
}

/// The file and its content.
pub(crate) struct EventFile<T> {
    path: PathBuf,
    /// The last events, for rewriting the file.
    last: VecDeque<String>,
    /// The last line about each map with failed paths.
    failed_paths: BTreeMap<String, String>,
    /// Open for appending; `None` if it has to be rewritten.
    file: Option<File>,
    lines: usize,
    failed: bool,
    /// A note found no room: no [`SYNC`] succeeds from then on.
    note_lost: bool,
    reply: T,
}

impl<T: FnMut(StoreReply<'_>)> EventFile<T> {
    pub(crate) fn open(path: PathBuf, mut reply: T) -> EventFile<T> {
        let mut kept = Vec::new();
        match read(&path) {
            Ok((lines, damaged)) => {
                if damaged > 0 {
                    let path = path.display();
                    let what = "are damaged and left out; a crash can do that";
                    reply(StoreReply::Wrong(&format!(
                        "{path}: {damaged} lines {what}"
                    )));
                }
                kept = lines;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let what = format!("{}: {error}; starting without the past", path.display());
                reply(StoreReply::Wrong(&what));
            }
        }
        let mut file = EventFile {
            path,
            last: VecDeque::new(),
            failed_paths: BTreeMap::new(),
            file: None,
            lines: 0,
            failed: false,
            note_lost: false,
            reply,
        };
        for line in kept {
            file.remember(line);
        }
        for event in &file.last {
            (file.reply)(StoreReply::Past(event));
        }
        for text in file.failed_paths.values() {
            (file.reply)(StoreReply::FailedPaths(&text[FAILED_PATHS_PREFIX.len()..]));
        }
        (file.reply)(StoreReply::Ready);
        file
    }

    pub(crate) fn keep(mut self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            if line.is_empty() {
                (self.reply)(StoreReply::Written);
            } else if line == SYNC {
                let synced = self.sync();
                self.report(&synced);
                let all = synced.is_ok() && !self.note_lost;
                (self.reply)(if all {
                    StoreReply::Synced
                } else {
                    StoreReply::Unsynced
                });
            } else if line.len() <= LINE_MAX {
                let written = self.write(line);
                self.report(&written);
            }
        }
    }

    /// Brings the file to the disk.
    fn sync(&mut self) -> io::Result<()> {
        let synced = match &self.file {
            Some(file) => file.sync_data(),
            None => self.rewrite(),
        };
        if synced.is_err() {
            // The kernel may have dropped what it could not write, and reports that only once.
            self.file = None;
        }
        synced
    }

    /// Keeps a line in memory, for rewriting the file.
    fn remember(&mut self, line: String) {
        let Some(text) = line.strip_prefix(FAILED_PATHS_PREFIX) else {
            if self.last.len() == EVENTS_KEPT {
                self.last.pop_front();
            }
            self.last.push_back(line);
            return;
        };
        let Ok(note) = serde_json::from_str::<FailedPaths>(text) else {
            return;
        };
        if note.paths.is_empty() || !note.is_of_this_boot() {
            self.failed_paths.remove(&note.map);
        } else if self.failed_paths.len() < FAILED_PATHS_MAX
            || self.failed_paths.contains_key(&note.map)
        {
            self.failed_paths.insert(note.map, line);
        } else {
            self.note_lost = true;
        }
    }

    /// Appends a line, or rewrites the file.
    fn write(&mut self, kept: String) -> io::Result<()> {
        let appended = line(&kept);
        self.remember(kept);
        let lines_max = LINES_MAX + 2 * self.failed_paths.len();
        if let Some(file) = self.file.as_mut().filter(|_| self.lines < lines_max) {
            let appended = file.write_all(appended.as_bytes());
            self.lines += 1;
            if appended.is_ok() {
                return Ok(());
            }
        }
        // The last line may be incomplete.
        self.file = None;
        self.rewrite()
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let all = self.last.iter().chain(self.failed_paths.values());
        self.file = Some(rewrite(&self.path, all)?);
        self.lines = self.last.len() + self.failed_paths.len();
        Ok(())
    }

    /// Reports once that the file can't be written, and once that it can again.
    fn report(&mut self, written: &io::Result<()>) {
        let path = self.path.display();
        if let Err(error) = written
            && !self.failed
        {
            let what = "events are kept in memory only until that is mended";
            (self.reply)(StoreReply::Wrong(&format!("{path}: {error}; {what}")));
        } else if written.is_ok() && self.failed {
            (self.reply)(StoreReply::Mended(&format!(
                "{path}: events are kept again"
            )));
        }
        self.failed = written.is_err();
    }
}

/// Writes a new file and renames it over the old one, which stays unchanged until then.
fn rewrite<'a>(path: &Path, all: impl Iterator<Item = &'a String>) -> io::Result<File> {
    refuse_special_file(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let text: String = all.map(|kept| line(kept)).collect();
    match fs::remove_file(&new) {
        // A crash can leave such a file.
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // `create_new` follows no link, so a user who may write to the folder can't redirect the write.
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

/// Refuses a device or a link: a state file named by mistake must not overwrite a disk.
fn refuse_special_file(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => Err(io::Error::other("is no regular file, and left alone")),
        _ => Ok(()),
    }
}

/// The lines of a file, in order, and how many lines are damaged.
fn read(path: &Path) -> io::Result<(Vec<String>, usize)> {
    refuse_special_file(path)?;
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
    use crate::daemon::process::boot_id;

    fn events(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("{{\"n\":{n}}}")).collect()
    }

    /// Keeps these events, and returns what a daemon after that finds.
    fn keep(path: &Path, new: &[String]) -> Vec<String> {
        let new = new.join("\n");
        EventFile::open(path.to_owned(), |_| ()).keep(new.as_bytes());
        EventFile::open(path.to_owned(), |_| ()).last.into()
    }

    #[test]
    fn what_is_said_is_understood() {
        for said in [
            StoreReply::Past("{\"a\": 1}"),
            StoreReply::FailedPaths("{\"map\": 1}"),
            StoreReply::Ready,
            StoreReply::Written,
            StoreReply::Synced,
            StoreReply::Unsynced,
            StoreReply::Wrong("a b"),
            StoreReply::Mended("c"),
        ] {
            assert_eq!(StoreReply::parse(&said.to_string()), Some(said));
        }
        assert_eq!(StoreReply::parse("panicked at"), None);
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
        let taken = |boot: &str, map: &str, paths: &[(u32, u32)]| {
            let paths = paths.iter().copied().collect();
            let (boot, map) = (boot.to_owned(), map.to_owned());
            FailedPaths { boot, map, paths }.line().expect("short")
        };
        let now = boot_id();
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
        drop(EventFile::open(path.clone(), |what| {
            said.extend(matches!(what, StoreReply::FailedPaths(_)).then(|| what.to_string()));
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
            // Lines that are kept after that are complete.
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
        assert!(refuse_special_file(Path::new("/dev/null")).is_err());
        // A link at the name of the new file is not followed, either.
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
            EventFile::open(path.clone(), |what| {
                let answer = matches!(what, StoreReply::Synced | StoreReply::Unsynced);
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
