//! Without the better backends, as in containers, the verdicts are the same and the reason is
//! shown.

use pathpulse_faultdisk::{Behaviour, Load, Release, Spec};
use serde_json::Value;

use super::common::{pathpulse, rig, stdout};
use super::seccomp::{IO_URING, output_under};

const ENOSYS: i32 = libc::ENOSYS;
const EPERM: i32 = libc::EPERM;
const AIO: [i64; 1] = [libc::SYS_io_setup];

/// Checks a healthy, a failing, a hanging and a saturated disk while the kernel answers some calls
/// with errnos; returns the document and the exit status.
fn check_under(answers: &[(&[i64], i32)]) -> (Value, Option<i32>) {
    let disks = rig(&Spec::loops(4));
    disks.set(1, Behaviour::Fail(libc::EIO)).expect("fails");
    disks.set(2, Behaviour::Hang).expect("hangs");
    disks.saturate(3, Load::Dead).expect("dead and full");
    let mut command = pathpulse();
    command.env_remove("PATHPULSE_BACKEND");
    command.args(["check", "--timeout", "1s", "--format", "json"]);
    command.args(disks.disks().iter().map(pathpulse_faultdisk::Disk::path));
    let output = output_under(answers, command);
    disks.release(2, Release::Data).expect("released");
    disks.recover(3).expect("recovers");
    let document = serde_json::from_str(&stdout(&output)).expect("a document");
    (document, output.status.code())
}

fn assert_same_verdicts(answers: &[(&[i64], i32)], backend: &str) {
    let (document, status) = check_under(answers);
    assert_eq!(document["backend"], backend);
    let paths = document["paths"].as_array().expect("a list");
    let verdicts: Vec<&str> = paths
        .iter()
        .filter_map(|path| path["verdict"].as_str())
        .collect();
    let expected = ["good", "failed", "timed_out", "saturated"];
    assert_eq!(verdicts, expected, "{document:#}");
    assert_eq!(paths[1]["errno"], "EIO");
    assert_eq!(status, Some(2));
}

#[test]
fn without_io_uring_the_verdicts_are_the_same_through_aio() {
    pathpulse_faultdisk::require!();
    for errno in [ENOSYS, EPERM] {
        assert_same_verdicts(&[(&IO_URING, errno)], "aio");
    }
}

#[test]
fn without_io_uring_and_aio_the_verdicts_are_the_same_through_threads() {
    pathpulse_faultdisk::require!();
    assert_same_verdicts(&[(&IO_URING, EPERM), (&AIO, ENOSYS)], "sync");
    assert_same_verdicts(&[(&IO_URING, ENOSYS), (&AIO, libc::EAGAIN)], "sync");
}

#[test]
fn a_named_backend_that_is_forbidden_is_not_replaced() {
    let mut command = pathpulse();
    command.args(["check", "--backend", "io_uring", "/dev/null"]);
    let output = output_under(&[(&IO_URING, EPERM)], command);
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["io_uring", "EPERM", "seccomp"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_daemon_logs_the_fallback_and_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = pathpulse();
    command.env_remove("PATHPULSE_BACKEND");
    // The daemon has no usable path, so it ends by itself after it has logged the backend.
    command
        .args(["run", "--socket"])
        .arg(folder.path().join("p.sock"));
    command.arg("/dev/null");
    let output = output_under(&[(&IO_URING, ENOSYS)], command);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["through aio", "io_uring is not available", "ENOSYS"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}
