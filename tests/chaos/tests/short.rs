//! A short run of the program: thousands of faults, and not one word of the daemon that is wrong.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One run at a time: each of them keeps time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs the program, which fails if anything was wrong, and shows then what that was.
fn chaos(args: &[&str]) {
    pathpulse_faultdisk::require!();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_pathpulse-chaos"))
        .args(args)
        .output()
        .expect("runs");
    let (out, err) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out) + String::from_utf8_lossy(err);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains(" faults, 0 wrong"), "{text}");
}

#[test]
fn five_thousand_faults_and_nothing_wrong() {
    chaos(&["--backend", "io_uring", "--faults", "5000"]);
}

#[test]
fn the_same_with_several_workers() {
    chaos(&["--backend", "io_uring", "--workers", "3", "--faults", "500"]);
}

#[test]
fn the_same_without_linked_timeouts() {
    chaos(&["--backend", "io_uring-unlinked", "--faults", "500"]);
}

#[test]
fn the_same_through_libaio() {
    chaos(&["--backend", "aio", "--faults", "500"]);
}

#[test]
fn the_same_through_threads() {
    chaos(&["--backend", "sync", "--faults", "500"]);
}
