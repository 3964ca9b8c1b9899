//! The user's side: starts, controls and shuts down a rig. Nothing in this process touches the
//! rig's devices, unless the user reads them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Client;
use crate::spec::{Behaviour, Counts, Load, Release, Spec};
use crate::wire::{AnswerMsg, CommandMsg, DiskInfo, FINGERPRINT, context};

/// How long the rig may take to shut down before its supervisor is killed (then the server cleans
/// up).
const SHUTDOWN: Duration = Duration::from_secs(20);

/// A running set of fault disks, shut down when dropped. All methods take `&self` and may be called
/// from many threads.
///
/// The error of a method is either `InvalidInput` (no such disk, or the command does not apply to
/// it), or `BrokenPipe`: the rig's processes have ended, and the rig has been cleaned up.
#[derive(Debug)]
pub struct Rig {
    client: Client,
    disks: Vec<Disk>,
    pids: Pids,
    folder: PathBuf,
    ended: AtomicBool,
}

/// The location of one disk of a running rig.
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
    pub supervisor: u32,
    /// The FUSE server.
    pub server: u32,
}

impl Disk {
    /// The path to check: `/dev/loopN`, or the FUSE file of a disk without a loop device.
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
    /// Starts a rig with the `faultdisk` binary: the one named by the environment variable
    /// `PATHPULSE_FAULTDISK`, otherwise the one beside the running executable or in the folder
    /// above it.
    ///
    /// # Errors
    /// The binary was not found, is from another build, or could not create the disks. See also
    /// [`available`](crate::available).
    pub fn start(spec: &Spec) -> io::Result<Self> {
        let mut command = Process::new(find_binary()?);
        command.arg("serve");
        Self::start_with(command, spec)
    }

    /// Starts a rig with another binary, which has to call [`serve_main`](crate::serve_main) when
    /// it is run with this command's arguments. This function sets the command's stdin, stdout and
    /// process group.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub fn start_with(mut command: Process, spec: &Spec) -> io::Result<Self> {
        // Its own process group: Ctrl-C ends the user, and then the supervisor cleans up.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let client = Client::start(command, || {})?;
        let answer = client.call(CommandMsg::Start {
            fingerprint: FINGERPRINT,
            spec: spec.clone(),
        });
        match answer.map_err(|e| context("starting the fault disks", e))? {
            AnswerMsg::Ready {
                disks,
                supervisor,
                server,
                folder,
            } => {
                let disks = disks.into_iter().map(Disk::from).collect();
                let ended = AtomicBool::new(false);
                Ok(Self {
                    client,
                    disks,
                    pids: Pids { supervisor, server },
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

    /// Sets what a disk does with requests from now on. Requests that it holds stay held.
    ///
    /// # Errors
    /// See [`Rig`]. A saturated or vanished disk refuses.
    pub fn set(&self, disk: usize, behaviour: Behaviour) -> io::Result<()> {
        self.set_many(&[(disk, behaviour)])
    }

    /// Changes many disks with one command. If it fails, none is changed.
    ///
    /// # Errors
    /// As [`Rig::set`].
    pub fn set_many(&self, changes: &[(usize, Behaviour)]) -> io::Result<()> {
        self.done(CommandMsg::Set(changes.to_vec()))
    }

    /// Ends all requests that the disk holds, and returns their number. New requests are held if
    /// the disk still hangs.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn release(&self, disk: usize, how: Release) -> io::Result<usize> {
        self.number(CommandMsg::Release(disk, how))
    }

    /// Sets [`Behaviour::Answer`], then applies [`Release::Data`]. Ends a saturation like
    /// [`Rig::unsaturate`].
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn recover(&self, disk: usize) -> io::Result<usize> {
        self.number(CommandMsg::Recover(disk))
    }

    /// How many requests the disk holds now.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn held(&self, disk: usize) -> io::Result<usize> {
        Ok(usize::try_from(self.counts(disk)?.held).unwrap_or(usize::MAX))
    }

    /// The disk's counters.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn counts(&self, disk: usize) -> io::Result<Counts> {
        match self.client.call(CommandMsg::Counts(disk))? {
            AnswerMsg::Counts(counts) => Ok(counts),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the disk holds at least this many requests, and returns how many it holds.
    ///
    /// # Errors
    /// `TimedOut` when `timeout` passes first. Otherwise see [`Rig`].
    pub fn wait_held(&self, disk: usize, at_least: usize, timeout: Duration) -> io::Result<usize> {
        self.number(CommandMsg::WaitHeld {
            disk,
            at_least,
            timeout,
        })
    }

    /// Waits until at least this many requests have arrived at the disk since the rig started, and
    /// returns their number.
    ///
    /// # Errors
    /// As [`Rig::wait_held`].
    pub fn wait_arrived(&self, disk: usize, at_least: u64, timeout: Duration) -> io::Result<usize> {
        self.number(CommandMsg::WaitArrived {
            disk,
            at_least,
            timeout,
        })
    }

    /// Starts a process that takes all tags of a loop device and keeps them. Returns when all tags
    /// are taken. The user's own reads then fail with `EAGAIN` under `RWF_NOWAIT`, and wait in D
    /// state otherwise. A read that gets a tag anyway is held like the others, and answered in its
    /// turn if the disk is only busy.
    ///
    /// A saturated disk can be saturated differently (dead, then busy), but its behaviour can't be
    /// set.
    ///
    /// # Errors
    /// `InvalidInput` for a bare file. Otherwise see [`Rig`].
    pub fn saturate(&self, disk: usize, load: Load) -> io::Result<()> {
        self.done(CommandMsg::Saturate(disk, load))
    }

    /// Ends the load: the disk answers again, and the requests it held are released with data.
    /// Returns their number.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn unsaturate(&self, disk: usize) -> io::Result<usize> {
        self.number(CommandMsg::Unsaturate(disk))
    }

    /// Removes the device, like a pulled disk: requests in flight and later ones fail, the size
    /// becomes 0 and the node is removed. `README.md` describes what a reader sees.
    ///
    /// # Errors
    /// See [`Rig`].
    pub fn vanish(&self, disk: usize) -> io::Result<()> {
        self.done(CommandMsg::Vanish(disk))
    }

    /// Attaches a vanished disk again. As with a real disk that is plugged in again, it is a new
    /// device with a new name and number; the old one, if still open, returns no bytes. Returns the
    /// new device, which [`Rig::disk`] does not know.
    ///
    /// # Errors
    /// `InvalidInput` if the disk has not vanished. Otherwise see [`Rig`].
    pub fn reappear(&self, disk: usize) -> io::Result<Disk> {
        match self.client.call(CommandMsg::Reappear(disk))? {
            AnswerMsg::Disk(info) => Ok(info.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// The rig's processes.
    #[must_use]
    pub fn pids(&self) -> Pids {
        self.pids
    }

    /// The folder in which the FUSE file system is mounted. Removed when the rig ends.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails all requests with EIO, and removes devices, mount and processes. Close your own
    /// descriptors of the disks before: a loop device that is still open stays, empty, and is
    /// removed when it is closed.
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
        let still_open = self.number(CommandMsg::Shutdown);
        self.client.close();
        // While devices are still open, the supervisor stays to remove them, and must not be
        // awaited.
        let waits = !matches!(still_open, Ok(n) if n > 0);
        if waits && !self.client.wait_end(SHUTDOWN) {
            self.client.kill();
        }
        still_open.map(drop)
    }

    fn done(&self, command: CommandMsg) -> io::Result<()> {
        self.client.call(command).map(drop)
    }

    fn number(&self, command: CommandMsg) -> io::Result<usize> {
        match self.client.call(command)? {
            AnswerMsg::Number(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
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

fn unexpected(answer: &AnswerMsg) -> io::Error {
    io::Error::other(format!("unexpected answer {answer:?}"))
}

/// Test executables are in `target/*/deps`. Binaries are in the folder above, including
/// `faultdisk`.
fn find_binary() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PATHPULSE_FAULTDISK") {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    let folders = executable.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("faultdisk")).find(|path| path.is_file()).ok_or_else(|| {
        let message = format!(
            "no `faultdisk` near {}: run `cargo build -p pathpulse-faultdisk`, or set PATHPULSE_FAULTDISK to its path",
            executable.display()
        );
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}
