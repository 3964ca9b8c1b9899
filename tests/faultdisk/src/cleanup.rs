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
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};

use crate::loopdev;
use crate::wire::context;

const PREFIX: &str = "pathpulse-faultdisk-";
/// How often, and after which pause, removing a loop device is tried that somebody (udev, a user that is about to die)
/// still has open.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// The folder of one rig.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    loops: File,
}

impl Folder {
    /// Makes a new, empty one below the system's folder for temporary files.
    pub(crate) fn create() -> io::Result<Self> {
        let pid = std::process::id();
        for n in 0.. {
            let path = std::env::temp_dir().join(format!("{PREFIX}{pid}-{n}"));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    std::fs::create_dir(path.join("mnt"))?;
                    return Self::open(&path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(context(path.display(), error)),
            }
        }
        unreachable!("an endless range ended")
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
    pub(crate) fn clean(&self) -> io::Result<()> {
        clean(&self.path)
    }
}

fn clean(folder: &Path) -> io::Result<()> {
    let mount = folder.join("mnt");
    let loops = std::fs::read_to_string(folder.join("loops")).unwrap_or_default();
    let numbers: Vec<u32> = loops.lines().filter_map(|line| line.parse().ok()).collect();
    let mut result = Ok(());
    let mut keep_first = |outcome: io::Result<()>| {
        if result.is_ok() {
            result = outcome;
        }
    };
    for &number in &numbers {
        if loopdev::backing_file(number).is_some_and(|file| file.starts_with(&mount)) {
            keep_first(loopdev::ensure_node(number).and_then(|()| loopdev::detach(number)));
        }
    }
    // Detached lazily, since a file may still be open in a user that is slow to die. An error means: not mounted.
    let _ = unmount(&mount, UnmountFlags::DETACH);
    keep_first(remove_all(&numbers));
    match std::fs::remove_dir(&mount).and_then(|()| std::fs::remove_dir_all(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            keep_first(Err(context(folder.display(), error)));
        }
        _ => {}
    }
    result
}

/// Removes the loop devices. One that stays open elsewhere is left to its user: detached, without a backing file, and
/// with its node, so that whoever is given it next finds it complete.
fn remove_all(numbers: &[u32]) -> io::Result<()> {
    let control = loopdev::control()?;
    let mut left = numbers.to_vec();
    for _ in 0..REMOVE_TRIES {
        // The kernel takes tens of milliseconds for each, but does many at a time.
        let remove = |&number: &u32| !matches!(loopdev::remove(&control, number), Ok(true));
        left = thread::scope(|scope| {
            let removals: Vec<_> = left
                .iter()
                .map(|number| (number, scope.spawn(move || remove(number))))
                .collect();
            let still_there = |(number, removal): (&u32, thread::ScopedJoinHandle<'_, bool>)| {
                removal.join().unwrap_or(true).then_some(*number)
            };
            removals.into_iter().filter_map(still_there).collect()
        });
        if left.is_empty() {
            return Ok(());
        }
        thread::sleep(REMOVE_PAUSE);
    }
    for &number in &left {
        loopdev::ensure_node(number)?;
    }
    Ok(())
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
            clean(&entry.path())?;
            swept.push(entry.path());
        }
    }
    Ok(swept)
}
