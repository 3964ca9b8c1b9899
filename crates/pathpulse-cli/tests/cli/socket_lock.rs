//! The lock file beside the socket belongs to the daemon's user only: anybody who can open it can
//! lock it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::common::{Daemon, assert_error_line, pathpulse, plain_file, stderr};

/// A user that does not exist.
const STRANGER: &str = "61186";

/// A process of another user that tries to hold the lock.
fn grab(lock: &Path) -> Output {
    let mut command = Command::new("setpriv");
    let user = [format!("--reuid={STRANGER}"), format!("--regid={STRANGER}")];
    command.args(user).args(["--clear-groups", "flock", "-n"]);
    command.arg(lock).arg("true").output().expect("runs")
}

#[test]
fn other_users_cannot_hold_a_lock_file_that_was_public() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("ours");
    let socket = folder.path().join("p.sock");
    let lock = folder.path().join("p.sock.lock");
    fs::write(&lock, "1234\n").expect("written");
    fs::set_permissions(&lock, Permissions::from_mode(0o644)).expect("ours");
    let before = grab(&lock);
    assert!(before.status.success(), "{}", stderr(&before));
    // The second run finds the file of the first one.
    for _ in 0..2 {
        let daemon = Daemon::spawn_at(pathpulse(), socket.clone(), &[file.path()], &[]);
        daemon.wait_log("paths are watched");
        let mode = fs::metadata(&lock).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = grab(&lock);
        let said = stderr(&refused);
        assert!(said.contains("Permission denied"), "{said}");
        drop(daemon);
        let refused = grab(&lock);
        assert!(!refused.status.success(), "nor while no daemon runs");
    }
}

#[test]
fn a_link_instead_of_the_lock_file_is_not_followed() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let precious = folder.path().join("precious");
    fs::write(&precious, "data").expect("written");
    fs::set_permissions(&precious, Permissions::from_mode(0o644)).expect("ours");
    symlink(&precious, folder.path().join("p.sock.lock")).expect("linked");
    let mut command = pathpulse();
    command.arg("run").arg("--socket");
    command.arg(folder.path().join("p.sock")).arg(file.path());
    let refused = command.output().expect("runs");
    assert_eq!(refused.status.code().map(|code| code == 0), Some(false));
    assert_error_line(&refused, &["p.sock.lock", "is a link", "left alone"]);
    assert_eq!(fs::read(&precious).expect("there"), b"data");
    let mode = fs::metadata(&precious).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}
