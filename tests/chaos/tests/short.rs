//! A short run of the program: thousands of faults without a violation.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One run at a time, because the runs measure times.
static LOCK: Mutex<()> = Mutex::new(());

/// Runs the program. It fails and prints the violations if there are any.
fn chaos(args: &[&str]) {
    pathpulse_faultdisk::require!();
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_pathpulse-chaos"))
        .args(args)
        .output()
        .expect("runs");
    let (out, err) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out) + String::from_utf8_lossy(err);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains(" faults, 0 violations"), "{text}");
}

#[test]
fn five_thousand_faults_without_violations() {
    chaos(&["--backend", "io_uring", "--faults", "5000"]);
}

#[test]
fn no_violations_with_several_workers() {
    chaos(&["--backend", "io_uring", "--workers", "3", "--faults", "500"]);
}

#[test]
fn no_violations_without_linked_timeouts() {
    chaos(&["--backend", "io_uring-unlinked", "--faults", "500"]);
}

#[test]
fn no_violations_with_libaio() {
    chaos(&["--backend", "aio", "--faults", "500"]);
}

#[test]
fn no_violations_with_threads() {
    chaos(&["--backend", "sync", "--faults", "500"]);
}
