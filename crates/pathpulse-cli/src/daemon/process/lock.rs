//! The lock file beside the socket: which process owns the socket, and which dead daemons the
//! kernel still holds.
//!
//! The process with the flock(2) of the file owns the socket. The kernel releases the lock when the
//! process ends, and a daemon that stops releases it itself. But a process with a read at a silent
//! device can't end and keeps the lock. So the file names its owner. If the owner never runs again
//! (`identity.rs`), a successor replaces the lock file with its own.
//!
//! Several successors at the same time: each makes the new file under the same name, and only the
//! process with its lock may rename it. A later one finds another file than the one that it
//! examined, and starts again.

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

use super::identity::{Life, ProcessId, boot_id};
use super::predecessors::HeldProcess;

/// How long the kernel may take to end a killed process; after that the process counts as held.
const ENDING_LIMIT: Duration = Duration::from_millis(200);
/// Tries to lock a file that is not replaced at the same time. Each failure is a success of another
/// daemon.
const TRIES: usize = 100;
/// A longer file was not written by us.
const RECORD_MAX: u64 = 64 * 1024;
/// Only the owner may open the file, because a process that can open it can lock it.
const MODE: u32 = 0o600;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockRecord {
    /// The process that has the lock, or had it last.
    owner: Option<ProcessId>,
    /// The boot in which its number is valid.
    boot: String,
    /// The PID namespace in which its number is valid, as /proc/self/ns/pid names it.
    pid_namespace: String,
    /// Devices with an unanswered read of it, as `major:minor`.
    #[serde(default)]
    pub(crate) stuck_devices: Vec<String>,
    /// Its predecessors that the kernel held.
    #[serde(default)]
    pub(crate) held: Vec<HeldProcess>,
}

impl LockRecord {
    fn own(held: Vec<HeldProcess>) -> LockRecord {
        LockRecord {
            owner: ProcessId::own(),
            boot: boot_id(),
            pid_namespace: pid_namespace(),
            stuck_devices: Vec::new(),
            held,
        }
    }

    /// Whether its owner is alive; [`Life::Hidden`] if that can't be known from here.
    fn owner_life(&self) -> Life {
        let here = self.boot == boot_id() && self.pid_namespace == pid_namespace();
        match self.owner {
            Some(owner) if here && !self.boot.is_empty() => owner.life(),
            _ => Life::Hidden,
        }
    }

    /// The predecessors that the kernel may still hold, and the owner.
    fn predecessors(self) -> Vec<HeldProcess> {
        if self.boot != boot_id() || self.pid_namespace != pid_namespace() {
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
        // The owner is included even if it is gone: a child that the kernel holds may have its
        // socket.
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
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
    record: LockRecord,
}

/// Why there is no lock.
#[derive(Debug, PartialEq)]
pub(crate) enum LockError {
    /// Another process has it; which one, in a few words.
    InUse(String),
    /// What, where, what to do.
    Other(String),
}

impl LockFile {
    /// Takes the lock at `path`. Returns it with earlier owners that the kernel may still hold.
    ///
    /// # Errors
    /// A process that is alive has it, or the error of the system.
    pub(crate) fn take(path: &Path) -> Result<(LockFile, Vec<HeldProcess>), LockError> {
        for _ in 0..TRIES {
            let file = open(path)?;
            if try_lock(path, &file)? {
                if is_at(&file, path) {
                    return LockFile::write(path, file, |file| read(file).predecessors());
                }
                continue;
            }
            let record = read(&file);
            let owner = record
                .owner
                .map_or(String::new(), |owner| format!(" (pid {})", owner.pid));
            match record.owner_life() {
                Life::Lives | Life::Hidden => {
                    return Err(LockError::InUse(format!("another daemon{owner}")));
                }
                Life::Held if record.owner.is_some_and(ends_soon) => {}
                Life::Held | Life::Gone => {
                    if let Some(taken) = replace(path, &file, record)? {
                        return Ok(taken);
                    }
                }
            }
        }
        Err(LockError::InUse("another daemon".to_owned()))
    }

    /// Writes this process into the file as its owner.
    fn write(
        path: &Path,
        file: File,
        predecessors: impl FnOnce(&File) -> Vec<HeldProcess>,
    ) -> Result<(LockFile, Vec<HeldProcess>), LockError> {
        let held = predecessors(&file);
        let lock = LockFile {
            path: path.to_owned(),
            record: LockRecord::own(held.clone()),
            file,
        };
        lock.save().map_err(|error| other(path, &error))?;
        Ok((lock, held))
    }

    fn save(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.record)?;
        text.push(b'\n');
        // If a kill leaves a rest of the old content, it is not read: only one value is.
        self.file.write_all_at(&text, 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Notes what a successor can't find out by itself: which devices have an unanswered read of
    /// this process, and which predecessors the kernel still holds. Writes only changes.
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

    /// Whether the file is still at its path. If not, another daemon could own the socket, too.
    pub(crate) fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Makes a removed lock file again.
    ///
    /// # Errors
    /// Another process has made one meanwhile, or the error of the system.
    pub(crate) fn restore(&mut self) -> Result<(), LockError> {
        let (new, _) = LockFile::take(&self.path)?;
        let record = std::mem::take(&mut self.record);
        *self = LockFile { record, ..new };
        self.save().map_err(|error| other(&self.path, &error))
    }

    /// Releases the lock. The file stays, because it names this process.
    pub(crate) fn release(&self) -> io::Result<()> {
        Ok(flock(&self.file, FlockOperation::NonBlockingUnlock)?)
    }
}

/// The processes in the lock file of a socket; none if it can't be read.
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

/// Replaces the lock file `examined`, whose owner never runs again, with one of this process.
/// `None` if another file is at its path by now.
fn replace(
    path: &Path,
    examined: &File,
    record: LockRecord,
) -> Result<Option<(LockFile, Vec<HeldProcess>)>, LockError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = open(&new)?;
    if !try_lock(&new, &file)? {
        let owner = "another daemon, which just starts,".to_owned();
        return Err(LockError::InUse(owner));
    }
    if !is_at(&file, &new) {
        return Ok(None);
    }
    if !is_at(examined, path) {
        fs::remove_file(&new).map_err(|error| other(&new, &error))?;
        return Ok(None);
    }
    let taken = LockFile::write(path, file, |_| record.predecessors())?;
    fs::rename(&new, path).map_err(|error| other(path, &error))?;
    Ok(Some(taken))
}

/// Opens a lock file; makes it if it is missing.
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
        Some(Errno::LOOP) => unexpected_file(path, "is a link"),
        _ => other(path, &error),
    })?;
    let meta = file.metadata().map_err(|error| other(path, &error))?;
    let own = geteuid().as_raw();
    if !meta.is_file() {
        return Err(unexpected_file(path, "is no regular file"));
    }
    if meta.uid() != own && own != 0 {
        return Err(unexpected_file(
            path,
            &format!("belongs to user {}", meta.uid()),
        ));
    }
    if meta.mode() & 0o777 != MODE {
        // An older version, or a person, made it.
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

/// The content of a file; empty if this program did not write it.
fn read(file: &File) -> LockRecord {
    let mut text = Vec::new();
    let mut reader = file.take(RECORD_MAX);
    if reader.read_to_end(&mut text).is_err() {
        return LockRecord::default();
    }
    let mut records = serde_json::Deserializer::from_slice(&text).into_iter();
    records.next().and_then(Result::ok).unwrap_or_default()
}

/// Waits a moment for the end of a process that never runs again; returns whether it ended.
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

fn unexpected_file(path: &Path, what: &str) -> LockError {
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
        let error = LockFile::take(path).expect_err("taken");
        assert!(matches!(error, LockError::InUse(_)), "{error:?}");
    }

    /// A lock whose file names this process as its owner.
    fn held_by(path: &Path, owner: ProcessId) -> LockFile {
        let (mut lock, _) = LockFile::take(path).expect("free");
        lock.record.owner = Some(owner);
        lock.save().expect("written");
        lock
    }

    /// A process that has ended and whose number is not used again yet.
    fn ended() -> ProcessId {
        let mut child = Command::new("true").spawn().expect("starts");
        let pid = child.id().cast_signed();
        let process = ProcessId::of(pid);
        child.wait().expect("ends");
        // A process that ended before this call is not in /proc.
        process.unwrap_or(ProcessId {
            pid,
            start_ticks: 0,
        })
    }

    #[test]
    fn one_has_it_and_only_its_owner_may_open_it() {
        let (_folder, path) = place();
        fs::write(&path, "1234").expect("an old one");
        let (lock, held) = LockFile::take(&path).expect("free");
        assert!(held.is_empty());
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_taken(&path);
        lock.release().expect("ours");
        LockFile::take(&path).expect("given back");
    }

    #[test]
    fn the_lock_of_one_that_is_gone_is_taken_over_by_exactly_one() {
        let (_folder, path) = place();
        // The descriptor stands for a child of it between fork and exec.
        let corpse = held_by(&path, ended());
        let contenders: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || LockFile::take(&path))
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
        // An owner that has written nothing yet.
        lock.file.set_len(0).expect("ours");
        assert_taken(&path);
    }

    #[test]
    fn what_is_left_of_a_longer_record_is_not_read() {
        let (_folder, path) = place();
        let (mut lock, _) = LockFile::take(&path).expect("free");
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
        let error = LockFile::take(&path).expect_err("a link");
        assert!(
            matches!(&error, LockError::Other(what) if what.contains("a link")),
            "{error:?}"
        );
        assert_eq!(fs::read(&precious).expect("there"), b"data");
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert!(LockFile::take(&path).is_err());
    }

    #[test]
    fn a_place_that_somebody_emptied_is_taken_again() {
        let (_folder, path) = place();
        let (mut lock, _) = LockFile::take(&path).expect("free");
        fs::remove_file(&path).expect("removed");
        assert!(!lock.is_in_place());
        lock.restore().expect("free");
        assert!(lock.is_in_place());
        fs::remove_file(&path).expect("removed");
        let _other = LockFile::take(&path).expect("free");
        assert!(matches!(lock.restore(), Err(LockError::InUse(_))));
    }
}
