//! The disks of the demo, and what each does when.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Load, Release, Rig, Spec};
use tempfile::TempDir;

use super::Failure;

const EIO: i32 = 5;
/// The link to the target is gone. (After a single EIO another place would be read, and answered.)
const ENOLINK: i32 = 67;
const LATE: Duration = Duration::from_millis(120);
const PLAIN_FILES: usize = 3;
const PLAIN_BYTES: usize = 1 << 20;

/// What a disk is told to do.
enum Act {
    Set(Behaviour),
    Saturate,
    Release,
}

/// One entry of the script: when, in percent of the length; which disk; what; in words.
struct Scene(u32, usize, Act, &'static str);

const ROLES: [&str; 7] = [
    "healthy",
    "slow",
    "flapping",
    "failing",
    "hanging",
    "saturated",
    "recovering",
];

fn script() -> Vec<Scene> {
    let every_8th = Behaviour::EveryNth {
        n: 8,
        then: Box::new(Behaviour::Fail(ENOLINK)),
    };
    vec![
        Scene(0, 1, Act::Set(Behaviour::Delay(LATE)), "answers late"),
        Scene(5, 2, Act::Set(every_8th), "ENOLINK every 8th"),
        Scene(12, 6, Act::Set(Behaviour::Hang), "answers nothing"),
        Scene(18, 3, Act::Set(Behaviour::Fail(EIO)), "EIO every time"),
        Scene(24, 4, Act::Set(Behaviour::Hang), "answers nothing"),
        Scene(30, 5, Act::Saturate, "all tags taken"),
        Scene(60, 6, Act::Release, "answers again"),
    ]
}

/// All disks, and where they are.
pub(crate) struct Troupe {
    disks: Vec<Disk>,
    stage: Machinery,
}

/// One disk: its part, and what it does now.
pub(crate) struct Disk {
    pub(crate) role: &'static str,
    pub(crate) path: PathBuf,
    doing: AtomicUsize,
}

enum Machinery {
    Rig(Rig),
    Folder(TempDir),
}

/// What disks do, in words; a disk has a place in this list.
const AT_FIRST: &str = "answers";

impl Disk {
    fn new(role: &'static str, path: &Path) -> Disk {
        Disk {
            role,
            path: path.to_owned(),
            doing: AtomicUsize::new(usize::MAX),
        }
    }

    /// What it does now.
    pub(crate) fn doing(&self) -> &'static str {
        let scene = self.doing.load(Relaxed);
        script().get(scene).map_or(AT_FIRST, |scene| scene.3)
    }
}

impl Troupe {
    /// Disks that fail on command. Their other processes are this binary with a hidden command.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn real() -> Result<Troupe, String> {
        pathpulse_faultdisk::available()?;
        let mut server = Command::new("/proc/self/exe");
        server.arg("rig-server");
        let rig = Rig::start_with(server, &Spec::loops(ROLES.len()))
            .map_err(|error| format!("no simulated disks: {error}"))?;
        let disks = ROLES.iter().zip(rig.disks());
        Ok(Troupe {
            disks: disks
                .map(|(role, disk)| Disk::new(role, disk.path()))
                .collect(),
            stage: Machinery::Rig(rig),
        })
    }

    /// Plain files, in the first folder whose file system takes `O_DIRECT`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn plain() -> Result<Troupe, Failure> {
        let folders = [
            PathBuf::from("/var/tmp"),
            PathBuf::from("."),
            std::env::temp_dir(),
        ];
        let made = folders.iter().find_map(|folder| plain_files(folder).ok());
        made.ok_or_else(|| {
            Failure::new(
                "no folder for temporary files that takes O_DIRECT; tried /var/tmp, . and TMPDIR",
            )
        })
    }

    /// Whether the disks do more than answer.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self.stage, Machinery::Rig(_))
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.disks.iter().map(|disk| disk.path.clone()).collect()
    }

    pub(crate) fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Lets go of all reads, so that nobody waits for one.
    pub(crate) fn release(&self) {
        if let Machinery::Rig(rig) = &self.stage {
            for disk in 0..self.disks.len() {
                let _ = rig.recover(disk);
            }
        }
    }

    /// Removes all of it.
    pub(crate) fn clear(self) -> Result<(), Failure> {
        match self.stage {
            Machinery::Rig(rig) => rig.shutdown(),
            Machinery::Folder(folder) => folder.close(),
        }
        .map_err(|error| Failure::new(format!("clearing up: {error}")))
    }
}

fn plain_files(folder: &Path) -> std::io::Result<Troupe> {
    let folder = tempfile::Builder::new()
        .prefix("pathpulse-demo-")
        .tempdir_in(folder)?;
    let mut disks = Vec::new();
    for number in 0..PLAIN_FILES {
        let path = folder.path().join(format!("file{number}"));
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&vec![0_u8; PLAIN_BYTES])?;
        // Pages that are not written back would be in the way of direct reads.
        file.sync_all()?;
        direct(&path)?;
        disks.push(Disk::new("plain file", &path));
    }
    Ok(Troupe {
        disks,
        stage: Machinery::Folder(folder),
    })
}

/// Whether the file takes `O_DIRECT`.
fn direct(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty())?;
    Ok(())
}

/// The script, as it is played.
pub(crate) struct Stage<'a> {
    troupe: &'a Troupe,
    length: Duration,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(troupe: &'a Troupe, length: Duration) -> Stage<'a> {
        Stage { troupe, length }
    }

    /// Has the disks do what they have to, until it is over or the other end of `end` is dropped.
    pub(crate) fn play(&self, start: Instant, end: &Receiver<()>) -> Result<(), Failure> {
        let Machinery::Rig(rig) = &self.troupe.stage else {
            return Ok(());
        };
        for (number, Scene(percent, disk, act, _)) in script().into_iter().enumerate() {
            let due = start + self.length * percent / 100;
            let pause = due.saturating_duration_since(Instant::now());
            if end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            let done = match act {
                Act::Set(behaviour) => rig.set(disk, behaviour),
                Act::Saturate => rig.saturate(disk, Load::Dead),
                Act::Release => rig
                    .set(disk, Behaviour::Answer)
                    .and_then(|()| rig.release(disk, Release::Data).map(drop)),
            };
            done.map_err(|error| Failure::new(format!("a simulated disk: {error}")))?;
            self.troupe.disks[disk].doing.store(number, Relaxed);
        }
        Ok(())
    }
}
