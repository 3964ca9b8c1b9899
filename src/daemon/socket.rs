//! The daemon's socket: one daemon for each, and no stale one in the way.
//!
//! Beside the socket lies a lock file. Whoever holds its lock owns the socket; the kernel gives the
//! lock back when its holder dies, however that happens, and a daemon that stops gives it back itself. So what the owner of the lock finds in the
//! socket's place is a dead daemon's, unless somebody answers there: then it is some other program's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::umask;

/// Read and write for owner and group, nothing for others.
const FORBIDDEN: Mode = Mode::from_raw_mode(0o117);

/// A socket that belongs to this process.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    listener: UnixListener,
    lock: File,
}

impl Claim {
    /// Makes the socket, and its folder if need be.
    ///
    /// # Errors
    /// In one line: who has it, or what the system says.
    pub(crate) fn take(path: &Path, group: Option<&str>) -> Result<Claim, String> {
        let group = group.map(group_number).transpose()?;
        let said = |error: io::Error| format!("socket {}: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| format!("{}; name another place with --socket", said(error)))?;
        }
        let lock = lock(path)?;
        remove_stale(path)?;
        let before = umask(FORBIDDEN);
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(said)?;
        if group.is_some() {
            chown(path, None, group)
                .map_err(|error| format!("{}; root may give it any group", said(error)))?;
        }
        listener.set_nonblocking(true).map_err(said)?;
        Ok(Claim {
            path: path.to_owned(),
            listener,
            lock,
        })
    }

    /// The socket to serve on; it does not block.
    pub(crate) fn listener(&self) -> Result<UnixListener, String> {
        let same = self.listener.try_clone();
        same.map_err(|error| format!("socket {}: {error}", self.path.display()))
    }

    /// Takes the socket out of the file system and gives its place up: what the kernel may keep of
    /// this process, until silent devices answer, must not keep another daemon from starting.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("socket {}: {error}", self.path.display());
        }
        if let Err(error) = flock(&self.lock, FlockOperation::NonBlockingUnlock) {
            tracing::debug!("socket {}: its lock: {error}", self.path.display());
        }
    }
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

fn lock(socket: &Path) -> Result<File, String> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let said = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o644)
        .open(&path)
        .map_err(|error| format!("{}; name another place with --socket", said(error)))?;
    if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if errno != Errno::WOULDBLOCK {
            return Err(said(errno.into()));
        }
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(taken(
            socket,
            &format!("another daemon (pid {})", pid.trim()),
        ));
    }
    let written = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(said)?;
    Ok(file)
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("socket {}: {error}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(said(error)),
        Ok(meta) if !meta.file_type().is_socket() => Err(format!(
            "socket {}: something else is there, and is left alone; name another place with --socket",
            path.display()
        )),
        Ok(_) => match knock(path) {
            // One that is too busy to answer is there as well.
            Ok(()) | Err(Errno::AGAIN) => Err(taken(path, "another program")),
            Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(said),
            Err(errno) => Err(said(errno.into())),
        },
    }
}

/// Connects without waiting.
fn knock(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
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
        let first = Claim::take(&path, None).expect("free");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let second = Claim::take(&path, None).expect_err("taken");
        let me = format!("pid {}", std::process::id());
        assert!(
            second.contains(&me) && second.contains("p.sock"),
            "{second}"
        );
        // Its owner dies: the file stays, the lock does not.
        drop(first);
        assert!(path.exists());
        let third = Claim::take(&path, None).expect("stale");
        third.remove();
        assert!(!path.exists());
        Claim::take(&path, None).expect("given up, though its process is still there");
    }

    #[test]
    fn the_socket_has_the_group_that_was_named() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.sock");
        let own = fs::metadata(folder.path()).expect("there").gid();
        let _claim = Claim::take(&path, Some(&own.to_string())).expect("ours");
        assert_eq!(fs::metadata(&path).expect("there").gid(), own);
        assert_eq!(group_number("root"), Ok(0));
        let error = Claim::take(&path, Some("no-such-group")).expect_err("none");
        assert!(error.contains("no-such-group"), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.sock");
        fs::write(&path, "precious").expect("a file");
        assert!(
            Claim::take(&path, None)
                .expect_err("a file")
                .contains("left alone")
        );
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
        fs::remove_file(&path).expect("removed");
        let _other = UnixListener::bind(&path).expect("a socket");
        let error = Claim::take(&path, None).expect_err("in use");
        assert!(error.contains("another program"), "{error}");
        let long = folder.path().join("x".repeat(200));
        assert!(Claim::take(&long, None).is_err());
    }
}
