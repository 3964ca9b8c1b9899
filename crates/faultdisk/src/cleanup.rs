//! Removes a rig: detaches the loop devices, unmounts the file system, removes the folder. It can
//! be repeated, and works the same for each caller: the supervisor, the server if the supervisor
//! has died, or `sweep` if both have.
//!
//! The rig's folder lists what to remove: `mnt` is the mount point, and `loops` lists the loop
//! devices. Each process that may clean up holds a shared lock on `loops`. Held requests must be
//! released before (or the server must have ended, so that the kernel fails them), because
//! detaching a loop device waits for its requests.

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
/// How long the end of a rig waits for a loop device that is still open (in udev, or in a user that
/// is ending).
const REMOVE_SOON: Duration = Duration::from_millis(200);
/// Pauses between two attempts to remove a device: first short, later long.
const PAUSE_SOON: Duration = Duration::from_millis(10);
const PAUSE_LATE: Duration = Duration::from_millis(250);

/// The folder of one rig.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    loops: File,
}

impl Folder {
    /// Creates a new, empty folder in the system's folder for temporary files. It gets its final
    /// name, which `sweep` looks for, only after it was locked.
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
            std::fs::remove_dir_all(&unnamed)?; // A killed rig has left a folder of this name.
        }
        Err(io::Error::other(
            "too many leftovers of killed rigs: run `faultdisk sweep`",
        ))
    }

    /// Opens an existing folder.
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

    /// The path of a disk's FUSE file while the file system is mounted.
    pub(crate) fn file(&self, disk: usize) -> PathBuf {
        self.mount_point().join(format!("disk{disk}"))
    }

    /// Records that a loop device belongs to this rig.
    pub(crate) fn record_loop(&self, number: u32) -> io::Result<()> {
        (&self.loops).write_all(format!("{number}\n").as_bytes())
    }

    /// Removes everything that this rig has left on the system. Continues after errors and returns
    /// the first one.
    pub(crate) fn clean(&self) -> io::Result<OpenDevices> {
        clean(&self.path)
    }
}

fn clean(folder: &Path) -> io::Result<OpenDevices> {
    let mount = folder.join("mnt");
    let loops = std::fs::read_to_string(folder.join("loops")).unwrap_or_default();
    let numbers: Vec<u32> = loops.lines().filter_map(|line| line.parse().ok()).collect();
    // Upper devices of a stack are detached first: a device that another one lies on would stay.
    let attached: Vec<u32> = attached_devices(&mount, &numbers)
        .into_iter()
        .rev()
        .collect();
    let detach =
        |&number: &u32| loopdev::ensure_node(number).and_then(|()| loopdev::detach(number));
    let detached: Vec<io::Result<()>> = attached.iter().map(detach).collect();
    // Unmounted lazily, because a user that ends slowly may still have a file open. An error means
    // that it is not mounted.
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
    Ok(OpenDevices(still_open?))
}

/// The loop devices that are still attached to a file in this mount, or to another such loop
/// device. The rig records a device before those that lie on it.
fn attached_devices(mount: &Path, numbers: &[u32]) -> Vec<u32> {
    let mut attached_devices: Vec<u32> = Vec::new();
    for &number in numbers {
        let is_ours = loopdev::backing_file(number).is_some_and(|file| {
            file.starts_with(mount)
                || attached_devices
                    .iter()
                    .any(|&below| loopdev::node(below) == file)
        });
        if is_ours {
            attached_devices.push(number);
        }
    }
    attached_devices
}

/// Loop devices that are detached, but can't be removed because they are still open.
#[derive(Debug)]
#[must_use]
pub(crate) struct OpenDevices(Vec<u32>);

impl OpenDevices {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Retries until the last of them is closed, however long that takes.
    pub(crate) fn remove_when_closed(self) -> io::Result<()> {
        remove_within(&self.0, Duration::MAX).map(drop)
    }
}

/// Removes loop devices. Returns those that are still open after `time`.
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
        // The node of a vanished disk is gone. From now on the device may be assigned to another
        // process that looks for a free one, so its node must exist.
        left.iter()
            .try_for_each(|&number| loopdev::ensure_node(number))?;
        thread::sleep(if begin.elapsed() < REMOVE_SOON {
            PAUSE_SOON
        } else {
            PAUSE_LATE
        });
        left.retain(|&number| !belongs_to_others(number));
    }
}

/// Whether another process found the device free and attached a file to it. Then it keeps the
/// device. A device of this rig that is still attached has autoclear set. That is checked first,
/// because it may be detached at any moment. The path of its file does not tell, because the mount
/// is gone.
fn belongs_to_others(number: u32) -> bool {
    !loopdev::is_autoclear(number) && loopdev::backing_file(number).is_some()
}

/// Tries once, and returns those that could not be removed. The kernel takes tens of milliseconds
/// for each device, but removes many at a time.
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

/// Cleans up after rigs whose processes were all killed. Returns the removed folders.
///
/// # Errors
/// The first failure.
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
