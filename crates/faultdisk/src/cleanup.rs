//! Taking a rig down: detach the loop devices, unmount, remove the folder. Idempotent, and the same whoever does it: the
//! janitor, the server when the janitor has died, or `sweep` when both have.
//!
//! What there is to clean is written in the rig's folder: `mnt` is the mount, `loops` lists the loop devices, and
//! whoever may still clean up holds a shared lock on `loops`. Held requests must have been released before (or the
//! server be dead, which makes the kernel fail them): detaching a loop device waits for its requests.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};

use crate::loopdev;
use crate::wire::context;

const PREFIX: &str = "pathpulse-faultdisk-";
/// How long the end of a rig is delayed for a loop device that somebody (udev, a user about to die) still has open.
const REMOVE_SOON: Duration = Duration::from_millis(200);
/// Pauses between two tries to remove a device, at first and later.
const PAUSE_SOON: Duration = Duration::from_millis(10);
const PAUSE_LATE: Duration = Duration::from_millis(250);

/// The folder of one rig.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    loops: File,
}

impl Folder {
    /// Makes a new, empty one below the system's folder for temporary files. It gets its real name, by which `sweep`
    /// knows it, only after it was locked.
    pub(crate) fn create() -> io::Result<Self> {
        let pid = std::process::id();
        let parent = std::env::temp_dir();
        for n in 0..100 {
            let path = parent.join(format!("{PREFIX}{pid}-{n}"));
            let unnamed = parent.join(format!(".{PREFIX}{pid}-{n}"));
            let made = std::fs::create_dir(&unnamed)
                .and_then(|()| std::fs::create_dir(unnamed.join("mnt")));
            made.map_err(|e| context(unnamed.display(), e))?;
            let mut folder = Self::open(&unnamed)?;
            if std::fs::rename(&unnamed, &path).is_ok() {
                folder.path = path;
                return Ok(folder);
            }
            std::fs::remove_dir_all(&unnamed)?; // the name is taken by what a killed rig has left
        }
        Err(io::Error::other(
            "too many remains of killed rigs: run `faultdisk sweep`",
        ))
    }

    /// Joins an existing one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let name = path.join("loops");
        let loops = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&name);
        let loops = loops.map_err(|e| context(name.display(), e))?;
        flock(&loops, FlockOperation::LockShared)?;
        Ok(Self {
            path: path.to_path_buf(),
            loops,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.path.join("mnt")
    }

    /// Where the FUSE file of a disk appears once the file system is mounted.
    pub(crate) fn file(&self, disk: usize) -> PathBuf {
        self.mount_point().join(format!("disk{disk}"))
    }

    /// Notes that a loop device belongs to this rig.
    pub(crate) fn note_loop(&self, number: u32) -> io::Result<()> {
        (&self.loops).write_all(format!("{number}\n").as_bytes())
    }

    /// Removes all that this rig has left on the system. Goes on after errors and returns the first.
    pub(crate) fn clean(&self) -> io::Result<StillOpen> {
        clean(&self.path)
    }
}

fn clean(folder: &Path) -> io::Result<StillOpen> {
    let mount = folder.join("mnt");
    let loops = std::fs::read_to_string(folder.join("loops")).unwrap_or_default();
    let numbers: Vec<u32> = loops.lines().filter_map(|line| line.parse().ok()).collect();
    // Those that lie on others are detached first: a device with another one on it would stay.
    let attached: Vec<u32> = ours(&mount, &numbers).into_iter().rev().collect();
    let detach =
        |&number: &u32| loopdev::ensure_node(number).and_then(|()| loopdev::detach(number));
    let detached: Vec<io::Result<()>> = attached.iter().map(detach).collect();
    // Detached lazily, since a file may still be open in a user that is slow to die. An error means: not mounted.
    let _ = unmount(&mount, UnmountFlags::DETACH);
    let still_open = remove_within(&numbers, REMOVE_SOON);
    let removed = match std::fs::remove_dir(&mount).and_then(|()| std::fs::remove_dir_all(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(context(folder.display(), error))
        }
        _ => Ok(()),
    };
    detached.into_iter().collect::<io::Result<()>>()?;
    removed?;
    Ok(StillOpen(still_open?))
}

/// Those of the loop devices that are still attached to a file below this mount, or to one another above such a file.
/// The rig notes a device before those that lie on it.
fn ours(mount: &Path, numbers: &[u32]) -> Vec<u32> {
    let mut ours: Vec<u32> = Vec::new();
    for &number in numbers {
        let is_ours = loopdev::backing_file(number).is_some_and(|file| {
            file.starts_with(mount) || ours.iter().any(|&below| loopdev::node(below) == file)
        });
        if is_ours {
            ours.push(number);
        }
    }
    ours
}

/// Loop devices that are detached, but cannot be removed because somebody has them open.
#[derive(Debug)]
#[must_use]
pub(crate) struct StillOpen(Vec<u32>);

impl StillOpen {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Goes on until the last of them is closed, however long that takes.
    pub(crate) fn remove_when_closed(self) -> io::Result<()> {
        remove_within(&self.0, Duration::MAX).map(drop)
    }
}

/// Removes loop devices, and returns those that are still open after `time`.
fn remove_within(numbers: &[u32], time: Duration) -> io::Result<Vec<u32>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let control = loopdev::control()?;
    let begin = Instant::now();
    let mut left = numbers.to_vec();
    loop {
        left = remove_all(&control, &left);
        if left.is_empty() || begin.elapsed() > time {
            return Ok(left);
        }
        // A vanished disk's node is gone. From now on the device may be given to whoever looks for a free one, who
        // should find it complete.
        left.iter()
            .try_for_each(|&number| loopdev::ensure_node(number))?;
        thread::sleep(if begin.elapsed() < REMOVE_SOON {
            PAUSE_SOON
        } else {
            PAUSE_LATE
        });
        left.retain(|&number| !is_anothers(number));
    }
}

/// Whether somebody else has attached a file to the device, having found it free. Then it is theirs, and stays. A device
/// of ours that is still attached is to be detached when it is closed (asked first, since that may be now); its file's path
/// would not tell, the mount being gone.
fn is_anothers(number: u32) -> bool {
    !loopdev::is_autoclear(number) && loopdev::backing_file(number).is_some()
}

/// Tries once, and returns those that could not be removed. The kernel takes tens of milliseconds for each device, but
/// does many at a time.
fn remove_all(control: &File, numbers: &[u32]) -> Vec<u32> {
    let stays = |&number: &u32| !matches!(loopdev::remove(control, number), Ok(true));
    thread::scope(|scope| {
        let tries: Vec<_> = numbers
            .iter()
            .map(|number| (*number, scope.spawn(move || stays(number))))
            .collect();
        tries
            .into_iter()
            .filter_map(|(number, stays)| stays.join().unwrap_or(true).then_some(number))
            .collect()
    })
}

/// Cleans up after rigs whose processes have all been killed. Returns the folders it has removed.
///
/// # Errors
/// The first thing that could not be cleaned.
pub fn sweep() -> io::Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(loops) = File::open(entry.path().join("loops")) else {
            continue;
        };
        if flock(&loops, FlockOperation::NonBlockingLockExclusive).is_ok() {
            clean(&entry.path())?.remove_when_closed()?;
            swept.push(entry.path());
        }
    }
    Ok(swept)
}
