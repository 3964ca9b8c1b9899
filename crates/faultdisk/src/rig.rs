//! The user's end: a rig is started, commanded and shut down from here. Nothing in this process ever touches the devices
//! of the rig, unless the user reads them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::link::Link;
use crate::spec::{Behaviour, Counts, Load, Release, Spec};
use crate::wire::{Answer, Command, DiskInfo, FINGERPRINT, context};

/// How long the rig may take to come down before its janitor is killed (the server then cleans up).
const SHUTDOWN: Duration = Duration::from_secs(20);

/// A running set of fault disks. Shut down when dropped. All methods take `&self` and may be called from many threads.
///
/// Every method's error is either the command's (`InvalidInput`: no such disk, or it makes no sense for that disk), or
/// `BrokenPipe`: the rig's processes are dead, and everything of it has been cleaned up.
#[derive(Debug)]
pub struct Rig {
    link: Link,
    disks: Vec<Disk>,
    pids: Pids,
    folder: PathBuf,
    ended: AtomicBool,
}

/// One disk of a running rig: where to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    path: PathBuf,
    file: PathBuf,
    major: u32,
    minor: u32,
}

/// The processes of a rig, for tests that kill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    /// The process that this one has started.
    pub janitor: u32,
    /// The FUSE server.
    pub server: u32,
}

impl Disk {
    /// What to check: `/dev/loopN`, or the FUSE file of a disk without a loop device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The FUSE file, below the loop device if there is one.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The loop device's numbers, as in `/sys/dev/block/MAJOR:MINOR`; (0, 0) for a bare file.
    #[must_use]
    pub fn major_minor(&self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

impl Rig {
    /// Starts a rig with the `faultdisk` binary: the one that the environment variable `PATHPULSE_FAULTDISK` names,
    /// else the one beside the running executable or in the folder above it.
    ///
    /// # Errors
    /// The binary is not found, is of another build, or could not set up the disks. See also [`available`](crate::available).
    pub fn start(spec: &Spec) -> io::Result<Self> {
        let mut command = Process::new(find_binary()?);
        command.arg("serve");
        Self::start_with(command, spec)
    }

    /// Starts a rig with another binary, which has to call [`serve_main`](crate::serve_main) when it is run with this
    /// command's arguments. The command's stdin, stdout and process group are set here.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub fn start_with(mut command: Process, spec: &Spec) -> io::Result<Self> {
        // Its own process group: Ctrl-C ends the user, and the janitor then cleans up.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let link = Link::start(command, || {})?;
        let answer = link.call(Command::Start {
            fingerprint: FINGERPRINT,
            spec: spec.clone(),
        });
        match answer.map_err(|e| context("starting the fault disks", e))? {
            Answer::Ready {
                disks,
                janitor,
                server,
                folder,
            } => {
                let disks = disks.into_iter().map(Disk::from).collect();
                let ended = AtomicBool::new(false);
                Ok(Self {
                    link,
                    disks,
                    pids: Pids { janitor, server },
                    folder,
                    ended,
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The disk with this index.
    ///
    /// # Panics
    /// If there is no such disk.
    #[must_use]
    pub fn disk(&self, disk: usize) -> &Disk {
        &self.disks[disk]
    }

    /// All disks, in the order of the spec.
    #[must_use]
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Changes what a disk does with requests from now on. What it holds stays held.
    ///
    /// # Errors
    /// See [`Rig`]. A saturated or vanished disk refuses.
    pub fn set(&self, disk: usize, behaviour: Behaviour) -> io::Result<()> {
        self.set_many(&[(disk, behaviour)])
    }

    /// Changes many disks with one command; on an error, none.
    ///
    /// # Errors
    /// As [`Rig::set`].
    pub fn set_many(&self, changes: &[(usize, Behaviour)]) -> io::Result<()> {
        self.done(Command::Set(changes.to_vec()))
    }

    /// Ends everything that the disk holds, and returns how many requests that were. New ones are held again if the
    /// disk still hangs.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn release(&self, disk: usize, how: Release) -> io::Result<usize> {
        self.number(Command::Release(disk, how))
    }

    /// [`Behaviour::Answer`], then [`Release::Data`]. Ends a saturation as [`Rig::unsaturate`] does.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn recover(&self, disk: usize) -> io::Result<usize> {
        self.number(Command::Recover(disk))
    }

    /// How many requests the disk holds now.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn held(&self, disk: usize) -> io::Result<usize> {
        Ok(usize::try_from(self.counts(disk)?.held).unwrap_or(usize::MAX))
    }

    /// What the disk has done so far.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn counts(&self, disk: usize) -> io::Result<Counts> {
        match self.link.call(Command::Counts(disk))? {
            Answer::Counts(counts) => Ok(counts),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the disk holds at least so many requests, and returns how many it holds.
    ///
    /// # Errors
    /// `TimedOut` when `timeout` passes first; else see [`Rig`].
    pub fn wait_held(&self, disk: usize, at_least: usize, timeout: Duration) -> io::Result<usize> {
        self.number(Command::WaitHeld {
            disk,
            at_least,
            timeout,
        })
    }

    /// Waits until at least so many requests have arrived at the disk since the rig started, and returns how many.
    ///
    /// # Errors
    /// As [`Rig::wait_held`].
    pub fn wait_arrived(&self, disk: usize, at_least: u64, timeout: Duration) -> io::Result<usize> {
        self.number(Command::WaitIo {
            disk,
            at_least,
            timeout,
        })
    }

    /// Has another process take all tags of a loop device, and keep them: returns when all are taken. What the
    /// user's own reads meet is `EAGAIN` under `RWF_NOWAIT`, a wait in D state without. A read that gets a tag all the
    /// same is held like the rest, and answered in its turn if the disk is only busy.
    ///
    /// A saturated disk can be saturated differently (dead, then busy), but its behaviour cannot be set.
    ///
    /// # Errors
    /// `InvalidInput` for a bare file; else see [`Rig`].
    pub fn saturate(&self, disk: usize, load: Load) -> io::Result<()> {
        self.done(Command::Saturate(disk, load))
    }

    /// Ends the load: the disk answers again, what it held is released with data. Returns how many requests that were.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn unsaturate(&self, disk: usize) -> io::Result<usize> {
        self.number(Command::Unsaturate(disk))
    }

    /// Takes the device away, as when a disk is pulled: requests in flight and later ones fail, the size becomes 0 and
    /// the node is removed. See `README.md` for what a reader sees.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn vanish(&self, disk: usize) -> io::Result<()> {
        self.done(Command::Vanish(disk))
    }

    /// Plugs a vanished disk in again. As with a disk that is plugged in again, that is another device, of another name
    /// and number: what had the old one open reads nothing from it for ever. Returns the new one, which [`Rig::disk`]
    /// does not tell.
    ///
    /// # Errors
    /// `InvalidInput` if the disk has not vanished; else see [`Rig`].
    pub fn reappear(&self, disk: usize) -> io::Result<Disk> {
        match self.link.call(Command::Reappear(disk))? {
            Answer::Disk(info) => Ok(info.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// The rig's processes.
    #[must_use]
    pub fn pids(&self) -> Pids {
        self.pids
    }

    /// The folder in which the FUSE file system is mounted; removed when the rig ends.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Releases everything with EIO, and removes devices, mount and processes. Close your own descriptors of the disks
    /// before: a loop device that is still open stays behind, empty, and is removed when it is closed.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn shutdown(self) -> io::Result<()> {
        self.end()
    }

    fn end(&self) -> io::Result<()> {
        if self.ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let still_open = self.number(Command::Shutdown);
        self.link.close();
        // While devices are still open, the janitor stays to remove them, and must not be waited for.
        let waits = !matches!(still_open, Ok(n) if n > 0);
        if waits && !self.link.wait_end(SHUTDOWN) {
            self.link.kill();
        }
        still_open.map(drop)
    }

    fn done(&self, command: Command) -> io::Result<()> {
        self.link.call(command).map(drop)
    }

    fn number(&self, command: Command) -> io::Result<usize> {
        match self.link.call(command)? {
            Answer::Number(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl From<DiskInfo> for Disk {
    fn from(info: DiskInfo) -> Self {
        Self {
            path: info.path,
            file: info.file,
            major: info.major,
            minor: info.minor,
        }
    }
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("unexpected answer {answer:?}"))
}

/// Test executables live in `target/*/deps`, binaries in the folder above, where `faultdisk` is.
fn find_binary() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PATHPULSE_FAULTDISK") {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    let folders = executable.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("faultdisk")).find(|path| path.is_file()).ok_or_else(|| {
        let message = format!(
            "no `faultdisk` near {}: run `cargo build -p pathpulse-faultdisk`, or name it in PATHPULSE_FAULTDISK",
            executable.display()
        );
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}
