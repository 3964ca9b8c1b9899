//! The daemon's socket: each socket has one daemon, and a stale socket is replaced.
//!
//! The process with the lock file beside the socket owns the socket (`process/lock.rs`). A socket
//! that the owner of the lock finds at its path belonged to a dead daemon, unless a process answers
//! there that is not known to be dead: then it belongs to another program. A removed socket is made
//! again.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::fs::{AtFlags, CWD, Gid, Mode, chownat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown,
    socket_with,
};
use rustix::process::umask;

use crate::daemon::process::{HeldProcess, LockError, LockFile, Predecessors, lock_of};

/// The umask for the socket: read and write for owner and group, nothing for others.
const UMASK: Mode = Mode::from_raw_mode(0o117);

/// The socket of this process, with its lock file.
#[derive(Debug)]
pub(crate) struct SocketLock {
    path: PathBuf,
    group: Option<u32>,
    listener: UnixListener,
    /// The file system and the inode of the socket.
    inode: (u64, u64),
    lock: LockFile,
    predecessors: Predecessors,
}

impl SocketLock {
    /// Makes the socket, and its folder if that is missing.
    ///
    /// # Errors
    /// In one line: which program has it, or the error of the system.
    pub(crate) fn take(path: &Path, group: Option<&str>) -> Result<SocketLock, String> {
        let group = group.map(group_number).transpose()?;
        make_folder(path)?;
        let (lock, held) = LockFile::take(&lock_of(path)).map_err(|error| refusal(path, error))?;
        let predecessors = Predecessors::new(held);
        let (listener, inode) = bind(path, group, &predecessors)?;
        Ok(SocketLock {
            path: path.to_owned(),
            group,
            listener,
            inode,
            lock,
            predecessors,
        })
    }

    /// The socket to serve on; it does not block.
    pub(crate) fn listener(&self) -> Result<UnixListener, String> {
        let same = self.listener.try_clone();
        same.map_err(|error| format!("socket {}: {error}", self.path.display()))
    }

    /// Dead daemons of this socket that the kernel may still hold.
    pub(crate) fn predecessors(&self) -> &Predecessors {
        &self.predecessors
    }

    /// Makes a removed lock file and a removed socket again; returns the new socket, if there is
    /// one.
    ///
    /// # Errors
    /// Why it can't be made, in one line.
    pub(crate) fn restore(&mut self) -> Result<Option<UnixListener>, String> {
        if !self.lock.is_in_place() {
            make_folder(&self.path)?;
            let restored = self.lock.restore();
            restored.map_err(|error| refusal(&self.path, error))?;
        }
        if inode_of(&self.path).is_ok_and(|inode| inode == self.inode) {
            return Ok(None);
        }
        (self.listener, self.inode) = bind(&self.path, self.group, &self.predecessors)?;
        self.listener().map(Some)
    }

    /// Notes in the lock file what a successor can't find out by itself.
    pub(crate) fn note(&mut self, stuck_devices: &[String], held: &[HeldProcess]) {
        if let Err(error) = self.lock.note(stuck_devices, held) {
            tracing::debug!("socket {}: its lock: {error}", self.path.display());
        }
    }

    /// Removes the socket and releases the lock. The kernel may hold this process until silent
    /// devices answer; that must not prevent another daemon from starting.
    pub(crate) fn remove(&self) {
        let log = |what: &str, error: io::Error| {
            tracing::debug!("socket {}: {what}{error}", self.path.display());
        };
        if inode_of(&self.path).is_ok_and(|inode| inode == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log("", error);
        }
        close_for_all(&self.listener);
        if let Err(error) = self.lock.release() {
            log("its lock: ", error);
        }
    }
}

/// Shuts a listening socket down for all processes that have it open.
pub(crate) fn close_for_all(listener: impl std::os::fd::AsFd) {
    // After a failure the kernel closes the socket when the process ends.
    let _ = shutdown(listener, Shutdown::Both);
}

fn make_folder(socket: &Path) -> Result<(), String> {
    let Some(folder) = socket.parent() else {
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|error| {
        format!(
            "socket {}: {error}; name another place with --socket",
            socket.display()
        )
    })
}

fn refusal(socket: &Path, error: LockError) -> String {
    match error {
        LockError::InUse(owner) => taken(socket, &owner),
        LockError::Other(what) => what,
    }
}

/// The file system and the inode of the file at `path`.
fn inode_of(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

fn bind(
    path: &Path,
    group: Option<u32>,
    predecessors: &Predecessors,
) -> Result<(UnixListener, (u64, u64)), String> {
    let describe = |error: io::Error| format!("socket {}: {error}", path.display());
    remove_stale(path, predecessors)?;
    let before = umask(UMASK);
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(describe)?;
    if let Some(group) = group {
        give_to_group(path, group)?;
    }
    listener.set_nonblocking(true).map_err(describe)?;
    let inode = inode_of(path).map_err(describe)?;
    Ok((listener, inode))
}

/// Lets the members of a group use the socket.
fn give_to_group(path: &Path, group: u32) -> Result<(), String> {
    // Not called if the group is right already: a sandbox may forbid the call.
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.gid() == group) {
        return Ok(());
    }
    // The seccomp filter of the unit allows only this call. It does not follow links.
    let group_id = Some(Gid::from_raw(group));
    let given = chownat(CWD, path, None, group_id, AtFlags::SYMLINK_NOFOLLOW);
    given.map_err(|errno| {
        let error = io::Error::from(errno);
        format!(
            "socket {}: socket_group {group}: {error}; root may give it any group, others one of their own: in the unit, SupplementaryGroups= adds one",
            path.display()
        )
    })
}

/// The number of a group, given its name or number.
fn group_number(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(format!(
            "socket_group: there is no group `{group}`; groupadd makes one"
        )),
        Err(errno) => Err(format!("socket_group `{group}`: {errno}")),
    }
}

fn remove_stale(path: &Path, predecessors: &Predecessors) -> Result<(), String> {
    let describe = |error: io::Error| format!("socket {}: {error}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(describe(error)),
        Ok(meta) if !meta.file_type().is_socket() => Err(format!(
            "socket {}: something else is there, and is left alone; name another place with --socket",
            path.display()
        )),
        Ok(_) => match peer_of(path) {
            // A dead daemon that the kernel holds still listens.
            Ok(listener) if predecessors.include(listener) => {
                fs::remove_file(path).map_err(describe)
            }
            // A full queue of connections may belong to a dead daemon, too.
            Err(Errno::AGAIN) if predecessors.are_known() => {
                fs::remove_file(path).map_err(describe)
            }
            // A full queue of connections belongs to a program that is busy.
            Ok(_) | Err(Errno::AGAIN) => Err(taken(path, "another program")),
            Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(describe),
            Err(errno) => Err(describe(errno.into())),
        },
    }
}

/// Connects without waiting; returns the number of the process that listens there.
fn peer_of(path: &Path) -> rustix::io::Result<i32> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    // 0 is a process that is not visible in this PID namespace.
    let peer = getsockopt(&socket, PeerCredentials);
    Ok(peer.map_or(0, |peer| peer.pid()))
}

fn taken(socket: &Path, who: &str) -> String {
    format!(
        "socket {0}: {who} is there; stop it (`pathpulse stop --socket {0}`) or name another place with --socket",
        socket.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_owner_at_a_time_and_dead_ones_are_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sub/folder/p.sock");
        let first = SocketLock::take(&path, None).expect("free");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let second = SocketLock::take(&path, None).expect_err("taken");
        let me = format!("pid {}", std::process::id());
        assert!(
            second.contains(&me) && second.contains("p.sock"),
            "{second}"
        );
        // The owner dies: the file stays, the lock does not.
        drop(first);
        assert!(path.exists());
        let third = SocketLock::take(&path, None).expect("stale");
        third.remove();
        assert!(!path.exists());
        SocketLock::take(&path, None).expect("given up, though its process is still there");
    }

    #[test]
    fn the_socket_has_the_group_that_was_named() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.sock");
        let own = fs::metadata(folder.path()).expect("there").gid();
        let _lock = SocketLock::take(&path, Some(&own.to_string())).expect("ours");
        assert_eq!(fs::metadata(&path).expect("there").gid(), own);
        assert_eq!(group_number("root"), Ok(0));
        let error = SocketLock::take(&path, Some("no-such-group")).expect_err("none");
        assert!(error.contains("no-such-group"), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.sock");
        fs::write(&path, "precious").expect("a file");
        assert!(
            SocketLock::take(&path, None)
                .expect_err("a file")
                .contains("left alone")
        );
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
        fs::remove_file(&path).expect("removed");
        let _other = UnixListener::bind(&path).expect("a socket");
        let error = SocketLock::take(&path, None).expect_err("in use");
        assert!(error.contains("another program"), "{error}");
        let long = folder.path().join("x".repeat(200));
        assert!(SocketLock::take(&long, None).is_err());
    }
}
