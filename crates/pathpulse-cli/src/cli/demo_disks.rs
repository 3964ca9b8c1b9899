//! The disks of the demo, and the script of their faults.

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
/// A lost link to the target. (After a single EIO, a check reads another place, which answers.)
const ENOLINK: i32 = 67;
const LATE: Duration = Duration::from_millis(120);
const PLAIN_FILES: usize = 3;
const PLAIN_BYTES: usize = 1 << 20;

/// A change of a disk.
enum Change {
    Set(Behaviour),
    Saturate,
    Release,
}

/// One entry of the script.
struct Step {
    /// When, in percent of the demo's length.
    percent: u32,
    disk: usize,
    change: Change,
    /// What the table shows from then on.
    text: &'static str,
}

const ROLES: [&str; 7] = [
    "healthy",
    "slow",
    "flapping",
    "failing",
    "hanging",
    "saturated",
    "recovering",
];

fn script() -> Vec<Step> {
    let every_8th = Behaviour::EveryNth {
        n: 8,
        then: Box::new(Behaviour::Fail(ENOLINK)),
    };
    let set = |percent, disk, behaviour, text| Step {
        percent,
        disk,
        change: Change::Set(behaviour),
        text,
    };
    vec![
        set(0, 1, Behaviour::Delay(LATE), "answers late"),
        set(5, 2, every_8th, "ENOLINK every 8th"),
        set(12, 6, Behaviour::Hang, "no answer"),
        set(18, 3, Behaviour::Fail(EIO), "EIO every time"),
        set(24, 4, Behaviour::Hang, "no answer"),
        Step {
            percent: 30,
            disk: 5,
            change: Change::Saturate,
            text: "all tags busy",
        },
        Step {
            percent: 60,
            disk: 6,
            change: Change::Release,
            text: "answers again",
        },
    ]
}

/// All disks of the demo.
pub(crate) struct DemoDisks {
    disks: Vec<SimulatedDisk>,
    backing: Backing,
}

/// One disk: its role, and its current fault.
pub(crate) struct SimulatedDisk {
    pub(crate) role: &'static str,
    pub(crate) path: PathBuf,
    /// Index of the last step of the script that changed it.
    step: AtomicUsize,
}

/// What the disks are made of.
enum Backing {
    Rig(Rig),
    Directory(TempDir),
}

/// The text of a disk that no step has changed yet.
const AT_FIRST: &str = "answers";

impl SimulatedDisk {
    fn new(role: &'static str, path: &Path) -> SimulatedDisk {
        SimulatedDisk {
            role,
            path: path.to_owned(),
            step: AtomicUsize::new(usize::MAX),
        }
    }

    /// Its current fault.
    pub(crate) fn fault(&self) -> &'static str {
        let step = self.step.load(Relaxed);
        script().get(step).map_or(AT_FIRST, |step| step.text)
    }
}

impl DemoDisks {
    /// Block devices that fail on command. Their servers are this binary with a hidden command.
    ///
    /// # Errors
    /// This host lacks something that they need.
    pub(crate) fn simulated() -> Result<DemoDisks, String> {
        pathpulse_faultdisk::available()?;
        let mut server = Command::new("/proc/self/exe");
        server.arg("rig-server");
        let rig = Rig::start_with(server, &Spec::loops(ROLES.len()))
            .map_err(|error| format!("cannot simulate disks: {error}"))?;
        let disks = ROLES.iter().zip(rig.disks());
        Ok(DemoDisks {
            disks: disks
                .map(|(role, disk)| SimulatedDisk::new(role, disk.path()))
                .collect(),
            backing: Backing::Rig(rig),
        })
    }

    /// Plain files, in the first directory whose file system supports `O_DIRECT`.
    ///
    /// # Errors
    /// There is no such directory.
    pub(crate) fn plain_files() -> Result<DemoDisks, Failure> {
        let directories = [
            PathBuf::from("/var/tmp"),
            PathBuf::from("."),
            std::env::temp_dir(),
        ];
        let made = directories
            .iter()
            .find_map(|parent| plain_files(parent).ok());
        made.ok_or_else(|| {
            Failure::new(
                "no directory for temporary files supports O_DIRECT: tried /var/tmp, . and TMPDIR; set TMPDIR to one that does",
            )
        })
    }

    /// Whether the disks can fail.
    pub(crate) fn have_faults(&self) -> bool {
        matches!(self.backing, Backing::Rig(_))
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.disks.iter().map(|disk| disk.path.clone()).collect()
    }

    pub(crate) fn all(&self) -> &[SimulatedDisk] {
        &self.disks
    }

    /// Answers all reads, so that nobody waits for one.
    pub(crate) fn release(&self) {
        if let Backing::Rig(rig) = &self.backing {
            for disk in 0..self.disks.len() {
                let _ = rig.recover(disk);
            }
        }
    }

    /// Removes all disks.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        match self.backing {
            Backing::Rig(rig) => rig.shutdown(),
            Backing::Directory(directory) => directory.close(),
        }
        .map_err(|error| Failure::new(format!("cannot remove the disks of the demo: {error}")))
    }
}

fn plain_files(parent: &Path) -> std::io::Result<DemoDisks> {
    let directory = tempfile::Builder::new()
        .prefix("pathpulse-demo-")
        .tempdir_in(parent)?;
    let mut disks = Vec::new();
    for number in 0..PLAIN_FILES {
        let path = directory.path().join(format!("file{number}"));
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&vec![0_u8; PLAIN_BYTES])?;
        // Dirty pages get in the way of direct reads.
        file.sync_all()?;
        open_direct(&path)?;
        disks.push(SimulatedDisk::new("plain file", &path));
    }
    Ok(DemoDisks {
        disks,
        backing: Backing::Directory(directory),
    })
}

/// Fails if the file does not support `O_DIRECT`.
fn open_direct(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty())?;
    Ok(())
}

/// Runs the script of faults.
pub(crate) struct FaultScript<'a> {
    disks: &'a DemoDisks,
    length: Duration,
}

impl<'a> FaultScript<'a> {
    pub(crate) fn new(disks: &'a DemoDisks, length: Duration) -> FaultScript<'a> {
        FaultScript { disks, length }
    }

    /// Runs all steps at their times, or until the other end of `end` is dropped.
    pub(crate) fn run(&self, start: Instant, end: &Receiver<()>) -> Result<(), Failure> {
        let Backing::Rig(rig) = &self.disks.backing else {
            return Ok(());
        };
        for (index, step) in script().into_iter().enumerate() {
            let disk = step.disk;
            let due = start + self.length * step.percent / 100;
            let pause = due.saturating_duration_since(Instant::now());
            if end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            let done = match step.change {
                Change::Set(behaviour) => rig.set(disk, behaviour),
                Change::Saturate => rig.saturate(disk, Load::Dead),
                Change::Release => rig
                    .set(disk, Behaviour::Answer)
                    .and_then(|()| rig.release(disk, Release::Data).map(drop)),
            };
            done.map_err(|error| Failure::new(format!("simulated disk {disk}: {error}")))?;
            self.disks.disks[disk].step.store(index, Relaxed);
        }
        Ok(())
    }
}
