//! The lock file beside the socket: who owns the socket, and whom the kernel still holds.
//!
//! Whoever has its flock(2) owns the socket. The kernel gives the lock back when its holder dies, and a
//! daemon that stops gives it back itself. But a process with a read at a silent device can't end, and
//! keeps the lock. So the file says who its holder is. If that one never runs again (`process.rs`), a
//! successor puts a lock file of its own into the place of that one.
//!
//! Several successors at a time: each makes the new file under one name, and only who has its lock may
//! rename it. Whoever comes later finds another file than the one that he judged, and begins anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use serde::{Deserialize, Serialize};

use super::identity::{Life, ProcessId};
use super::predecessors::HeldProcess;
use crate::daemon::events::store_file::this_boot;

/// How long the kernel may take to end a process that was killed, before it is taken for held.
const ENDING_LIMIT: Duration = Duration::from_millis(200);
/// Tries to find a file that is not replaced meanwhile. Each failure is another daemon's success.
const TRIES: usize = 100;
/// What is longer was not written by us.
const RECORD_MAX: u64 = 64 * 1024;
/// Only the owner may open the file: whoever can, can hold its lock.
const MODE: u32 = 0o600;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Who has the lock, or had it last.
    owner: Option<ProcessId>,
    /// In which boot its number means something.
    boot: String,
    /// In which PID namespace it does, as /proc/self/ns/pid names it.
    pid_namespace: String,
    /// Devices with a read of it that they have not answered, as `major:minor`.
    #[serde(default)]
    pub(crate) stuck_devices: Vec<String>,
    /// Its predecessors that the kernel held.
    #[serde(default)]
    pub(crate) held: Vec<HeldProcess>,
}

impl Record {
    fn own(held: Vec<HeldProcess>) -> Record {
        Record {
            owner: ProcessId::own(),
            boot: this_boot(),
            pid_namespace: pid_namespace(),
            stuck_devices: Vec::new(),
            held,
        }
    }

    /// How its owner is; [`Life::Hidden`] when that can't be known from here.
    fn owner_life(&self) -> Life {
        let here = self.boot == this_boot() && self.pid_namespace == pid_namespace();
        match self.owner {
            Some(owner) if here && !self.boot.is_empty() => owner.life(),
            _ => Life::Hidden,
        }
    }

    /// Those of this file whom the kernel may still hold, and its owner.
    fn predecessors(self) -> Vec<HeldProcess> {
        if self.boot != this_boot() || self.pid_namespace != pid_namespace() {
            return Vec::new();
        }
        let owner = self.owner.map(|process| HeldProcess {
            process,
            since: SystemTime::now(),
            devices: self.stuck_devices,
        });
        let own = ProcessId::own();
        let mut all = self.held;
        all.retain(|held| held.process.life() != Life::Gone);
        // One that is gone may have left its socket to a child, which the kernel holds.
        all.extend(owner.filter(|owner| Some(owner.process) != own));
        all
    }
}

fn pid_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// The lock of a socket, held by this process.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: File,
    record: Record,
}

/// Why there is no lock.
#[derive(Debug, PartialEq)]
pub(crate) enum LockError {
    /// Somebody has it, in a few words.
    Taken(String),
    /// What, where, what to do.
    Other(String),
}

impl Lock {
    /// Takes the lock at `path`, and says whom the kernel may still hold of those who had it before.
    ///
    /// # Errors
    /// When a process that lives has it, or what the system says.
    pub(crate) fn take(path: &Path) -> Result<(Lock, Vec<HeldProcess>), LockError> {
        for _ in 0..TRIES {
            let file = open(path)?;
            if try_lock(path, &file)? {
                if is_at(&file, path) {
                    return Lock::write(path, file, |file| read(file).predecessors());
                }
                continue;
            }
            let record = read(&file);
            let who = record
                .owner
                .map_or(String::new(), |owner| format!(" (pid {})", owner.pid));
            match record.owner_life() {
                Life::Lives | Life::Hidden => {
                    return Err(LockError::Taken(format!("another daemon{who}")));
                }
                Life::Held if record.owner.is_some_and(ends_soon) => {}
                Life::Held | Life::Gone => {
                    if let Some(taken) = replace(path, &file, record)? {
                        return Ok(taken);
                    }
                }
            }
        }
        Err(LockError::Taken("another daemon".to_owned()))
    }

    /// Makes the file say who has it.
    fn write(
        path: &Path,
        file: File,
        predecessors: impl FnOnce(&File) -> Vec<HeldProcess>,
    ) -> Result<(Lock, Vec<HeldProcess>), LockError> {
        let held = predecessors(&file);
        let lock = Lock {
            path: path.to_owned(),
            record: Record::own(held.clone()),
            file,
        };
        lock.save().map_err(|error| other(path, &error))?;
        Ok((lock, held))
    }

    fn save(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.record)?;
        text.push(b'\n');
        // What a kill leaves of a longer one after this is not read: one value is.
        self.file.write_all_at(&text, 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Has the file say what a successor can't find out: which devices owe this process a read, and whom
    /// of its predecessors the kernel still holds. Writes only what is new.
    pub(crate) fn note(
        &mut self,
        stuck_devices: &[String],
        held: &[HeldProcess],
    ) -> io::Result<()> {
        if self.record.stuck_devices == stuck_devices && self.record.held == held {
            return Ok(());
        }
        self.record.stuck_devices = stuck_devices.to_vec();
        self.record.held = held.to_vec();
        self.save()
    }

    /// Whether the file is still in its place. Without it another daemon could own the socket, too.
    pub(crate) fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Puts a file of this process into the place again that somebody has emptied.
    ///
    /// # Errors
    /// When somebody else has the place meanwhile, or what the system says.
    pub(crate) fn restore(&mut self) -> Result<(), LockError> {
        let (new, _) = Lock::take(&self.path)?;
        let record = std::mem::take(&mut self.record);
        *self = Lock { record, ..new };
        self.save().map_err(|error| other(&self.path, &error))
    }

    /// Gives the lock back. The file stays: it says who this was.
    pub(crate) fn release(&self) -> io::Result<()> {
        Ok(flock(&self.file, FlockOperation::NonBlockingUnlock)?)
    }
}

/// What the lock file of a socket says of processes that had it; nothing if it can't be read.
pub(crate) fn recorded(socket: &Path) -> Vec<HeldProcess> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(lock_of(socket));
    file.map_or(Vec::new(), |file| read(&file).predecessors())
}

/// The lock file of a socket.
pub(crate) fn lock_of(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

/// Puts a lock file of this process into the place of `judged`, whose owner never runs again; `None` if
/// that is not the file in this place any more.
fn replace(
    path: &Path,
    judged: &File,
    record: Record,
) -> Result<Option<(Lock, Vec<HeldProcess>)>, LockError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = open(&new)?;
    if !try_lock(&new, &file)? {
        let who = "another daemon, which just starts,".to_owned();
        return Err(LockError::Taken(who));
    }
    if !is_at(&file, &new) {
        return Ok(None);
    }
    if !is_at(judged, path) {
        fs::remove_file(&new).map_err(|error| other(&new, &error))?;
        return Ok(None);
    }
    let taken = Lock::write(path, file, |_| record.predecessors())?;
    fs::rename(&new, path).map_err(|error| other(path, &error))?;
    Ok(Some(taken))
}

/// Opens a lock file, and makes it if need be.
fn open(path: &Path) -> Result<File, LockError> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => strange(path, "is a link"),
        _ => other(path, &error),
    })?;
    let meta = file.metadata().map_err(|error| other(path, &error))?;
    let own = geteuid().as_raw();
    if !meta.is_file() {
        return Err(strange(path, "is no regular file"));
    }
    if meta.uid() != own && own != 0 {
        return Err(strange(path, &format!("belongs to user {}", meta.uid())));
    }
    if meta.mode() & 0o777 != MODE {
        // Of an older version, or of somebody's making.
        fchmod(&file, Mode::from_raw_mode(MODE)).map_err(|errno| other(path, &errno.into()))?;
    }
    Ok(file)
}

fn try_lock(path: &Path, file: &File) -> Result<bool, LockError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(other(path, &errno.into())),
    }
}

/// Whether this file is the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// What a file says; nothing if that is not one of our making.
fn read(file: &File) -> Record {
    let mut text = Vec::new();
    let mut reader = file.take(RECORD_MAX);
    if reader.read_to_end(&mut text).is_err() {
        return Record::default();
    }
    let mut records = serde_json::Deserializer::from_slice(&text).into_iter();
    records.next().and_then(Result::ok).unwrap_or_default()
}

/// Waits a moment for a process that never runs again to end; says whether it did.
fn ends_soon(owner: ProcessId) -> bool {
    let process =
        Pid::from_raw(owner.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let (Some(process), Ok(limit)) = (process, Timespec::try_from(ENDING_LIMIT)) {
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    }
    owner.life() == Life::Gone
}

fn other(path: &Path, error: &io::Error) -> LockError {
    LockError::Other(format!(
        "{}: {error}; name another place with --socket",
        path.display()
    ))
}

fn strange(path: &Path, what: &str) -> LockError {
    LockError::Other(format!(
        "{}: {what}, and is left alone; remove it, or name another place with --socket",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.sock.lock");
        (folder, path)
    }

    fn assert_taken(path: &Path) {
        let error = Lock::take(path).expect_err("taken");
        assert!(matches!(error, LockError::Taken(_)), "{error:?}");
    }

    /// A lock whose file says that its owner is this process.
    fn held_by(path: &Path, owner: ProcessId) -> Lock {
        let (mut lock, _) = Lock::take(path).expect("free");
        lock.record.owner = Some(owner);
        lock.save().expect("written");
        lock
    }

    /// A process that has ended, and whose number nobody has by now.
    fn ended() -> ProcessId {
        let mut child = Command::new("true").spawn().expect("starts");
        let pid = child.id().cast_signed();
        let process = ProcessId::of(pid);
        child.wait().expect("ends");
        // One that ended before it was looked at has another time.
        process.unwrap_or(ProcessId {
            pid,
            start_ticks: 0,
        })
    }

    #[test]
    fn one_has_it_and_only_its_owner_may_open_it() {
        let (_folder, path) = place();
        fs::write(&path, "1234").expect("an old one");
        let (lock, held) = Lock::take(&path).expect("free");
        assert!(held.is_empty());
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_taken(&path);
        lock.release().expect("ours");
        Lock::take(&path).expect("given back");
    }

    #[test]
    fn the_lock_of_one_that_is_gone_is_taken_over_by_exactly_one() {
        let (_folder, path) = place();
        // As a child does that it left, between fork and exec.
        let corpse = held_by(&path, ended());
        let contenders: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Lock::take(&path))
            })
            .collect();
        let ends = contenders.into_iter().map(std::thread::JoinHandle::join);
        let ends: Vec<_> = ends.map(|end| end.expect("no panic")).collect();
        let winners: Vec<_> = ends.iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{ends:?}");
        assert!(winners[0].0.is_in_place() && !corpse.is_in_place());
        assert!(!path.with_extension("lock.new").exists());
        assert_taken(&path);
    }

    #[test]
    fn one_that_lives_or_cannot_be_seen_keeps_it() {
        let (_folder, path) = place();
        let mut lock = held_by(&path, ProcessId::own().expect("/proc"));
        assert_taken(&path);
        lock.record.owner = Some(ended());
        lock.record.pid_namespace = "pid:[1]".to_owned();
        lock.save().expect("written");
        assert_taken(&path);
        // Somebody who says nothing of himself.
        lock.file.set_len(0).expect("ours");
        assert_taken(&path);
    }

    #[test]
    fn what_is_left_of_a_longer_record_is_not_read() {
        let (_folder, path) = place();
        let (mut lock, _) = Lock::take(&path).expect("free");
        let devices: Vec<String> = (0..50).map(|n| format!("8:{n}")).collect();
        lock.note(&devices, &[]).expect("written");
        let long = fs::read(&path).expect("there");
        lock.note(&["8:1".to_owned()], &[]).expect("written");
        let mut short = fs::read(&path).expect("there");
        short.extend(&long[short.len()..]);
        fs::write(&path, short).expect("written");
        assert_eq!(read(&File::open(&path).expect("there")), lock.record);
    }

    #[test]
    fn what_is_strange_is_left_alone() {
        let (folder, path) = place();
        let precious = folder.path().join("precious");
        fs::write(&precious, "data").expect("written");
        symlink(&precious, &path).expect("linked");
        let error = Lock::take(&path).expect_err("a link");
        assert!(
            matches!(&error, LockError::Other(what) if what.contains("a link")),
            "{error:?}"
        );
        assert_eq!(fs::read(&precious).expect("there"), b"data");
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert!(Lock::take(&path).is_err());
    }

    #[test]
    fn a_place_that_somebody_emptied_is_taken_again() {
        let (_folder, path) = place();
        let (mut lock, _) = Lock::take(&path).expect("free");
        fs::remove_file(&path).expect("removed");
        assert!(!lock.is_in_place());
        lock.restore().expect("free");
        assert!(lock.is_in_place());
        fs::remove_file(&path).expect("removed");
        let _other = Lock::take(&path).expect("free");
        assert!(matches!(lock.restore(), Err(LockError::Taken(_))));
    }
}
