//! Starts a child process that ends with its parent, and ends it without waiting for it.
//!
//! A child that a device holds in the kernel (state D in ps(1)) dies only when the device lets go,
//! even after SIGKILL. So nothing here waits for a child: its end is polled for.
//!
//! What the child does, when it is killed, and when another one is started is decided elsewhere.

mod placements;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::errno::Errno;
use crate::error::KernelError;
use crate::limits::exit_now;
use placements::{Placements, place};

/// How often a start is tried again after a number changed hands during it, which takes another
/// thread that closes a file within some microseconds.
const TRIES: u32 = 10;

/// A child process.
///
/// Dropping it neither kills the child nor waits for it. A child that ends after that stays in the
/// process table (state Z) until its parent ends.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
    /// Set once the child was reaped.
    end: Mutex<Option<ChildEnd>>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// It exited, with this status: 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It was reaped by somebody else, so that its status is lost. Happens only in a process that
    /// ignores SIGCHLD or waits for any child.
    Unknown,
}

impl fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildEnd::Exited(status) => write!(f, "exited with status {status}"),
            ChildEnd::Killed(signal) => write!(f, "killed by signal {signal}"),
            ChildEnd::Unknown => f.write_str("ended, status unknown"),
        }
    }
}

impl Child {
    /// Starts a program, with each file as the descriptor of the number beside it. The caller's
    /// copies of the files are closed. All other descriptors are closed in the child, provided that
    /// they have `FD_CLOEXEC`, as Rust opens them. Input and output are /dev/null; errors go where
    /// those of this process go. No signal is blocked, and SIGTERM, SIGINT, SIGHUP and SIGPIPE end
    /// the child unless it handles them.
    ///
    /// **The child is killed when the calling thread ends** (PR_SET_PDEATHSIG in prctl(2)), and so
    /// when this process ends. Call this on a thread that lives as long as the child is needed. The
    /// kernel drops that wish if the program has file capabilities or is set-user-ID. So the child
    /// should also exit when the other end of a socket closes.
    ///
    /// This waits until the program was found and loaded, so it must not lie on a device that may
    /// hang: prefer `/proc/self/exe`, which is in memory at least in part.
    ///
    /// # Errors
    /// The errno of fork(2) or execve(2), such as `ENOENT` or `EACCES`; `EMFILE` when no
    /// descriptors are left; `EINVAL` for a number above the limit of descriptors; `EBUSY` if other
    /// threads keep closing and opening the numbers.
    ///
    /// # Panics
    /// If a number is below 3 or occurs twice.
    pub fn start(
        program: &Path,
        args: &[&OsStr],
        files: Vec<(OwnedFd, i32)>,
    ) -> Result<Child, KernelError> {
        let mut tries = 0..TRIES;
        loop {
            let started = start_once(program, args, &files);
            let is_busy = matches!(&started, Err(error) if error.errno == Errno::EBUSY);
            if !is_busy || tries.next().is_none() {
                // Frees descriptors, so that there is one for the pidfd.
                drop(files);
                return Child::of(started?);
            }
        }
    }

    fn of(mut started: std::process::Child) -> Result<Child, KernelError> {
        let pid = Pid::from_child(&started);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Child {
                pid: started.id(),
                pidfd,
                end: Mutex::new(None),
            }),
            Err(errno) => {
                // Not waited for, because it may hang. At worst, it stays in the process table.
                let _ = started.kill();
                let _ = started.try_wait();
                Err(KernelError::new("pidfd_open", errno.into()))
            }
        }
    }

    /// The number of the process. After the end of the child was reported, it may be that of
    /// another process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills the child with SIGKILL and returns at once. Does nothing to a child that has ended.
    /// When it is gone is told by [`Child::try_wait`].
    ///
    /// # Errors
    /// `EPERM` if the child runs as a user that this process must not kill.
    pub fn kill(&self) -> Result<(), KernelError> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal, by its number, such as `SIGSTOP`. Does nothing to a child that has ended.
    ///
    /// # Errors
    /// `EINVAL` if there is no such signal, or `EPERM`.
    pub fn signal(&self, signal: i32) -> Result<(), KernelError> {
        let call = "pidfd_send_signal";
        let signal = Signal::from_named_raw(signal).ok_or(KernelError::new(call, Errno::EINVAL))?;
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            // The child was reaped. A pidfd never means another process.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(KernelError::new(call, errno.into())),
        }
    }

    /// How the child ended, or `None` if it has not. Never blocks. Reaps the child, and gives the
    /// same answer from then on.
    ///
    /// A killed child that the kernel holds (state D) has not ended.
    pub fn try_wait(&self) -> Option<ChildEnd> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_none() {
            *end = reap(self.pidfd.as_fd());
        }
        *end
    }
}

impl AsFd for Child {
    /// The pidfd of the child: poll(2) reports it as readable when the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Starts a program. Fails with `EBUSY` if a number changed hands meanwhile.
fn start_once(
    program: &Path,
    args: &[&OsStr],
    files: &[(OwnedFd, i32)],
) -> Result<std::process::Child, KernelError> {
    let placements = Placements::new(files)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let (parent, list) = (rustix::process::getpid(), placements.list);
    let prepare = move || {
        end_with_parent(parent)?;
        place(&list)?;
        reset_signals()
    };
    // SAFETY: the closure only makes system calls that signal-safety(7) allows or that are no
    // functions of libc at all. It allocates and frees nothing: errors are plain numbers.
    unsafe { command.pre_exec(prepare) };
    let started = command.spawn().map_err(KernelError::of("execve"));
    drop(placements.held);
    started
}

/// Reaps the child of this pidfd, if it has ended.
fn reap(pidfd: BorrowedFd) -> Option<ChildEnd> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
        Ok(status) => status?,
        Err(rustix::io::Errno::CHILD) => return Some(ChildEnd::Unknown),
        Err(errno) => unreachable!("waitid of an own child, without blocking: {errno}"),
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Some(ChildEnd::Exited(status)),
        (None, Some(signal)) => Some(ChildEnd::Killed(signal)),
        (None, None) => unreachable!("an ended child exited or was killed: {status:?}"),
    }
}

/// In the child: asks to be killed when the thread that started it ends. Exits if that ended first.
fn end_with_parent(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        exit_now(1);
    }
    Ok(())
}

/// In the child: the default for the signals that ask a process to end, and none blocked. execve
/// keeps what is ignored or blocked (signal(7)).
fn reset_signals() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
        // SAFETY: with SIG_DFL, signal(2) refers to no memory.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) writes the whole set, which is on the stack of this function.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: sigprocmask(2) reads the set written above, and does not keep it.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
