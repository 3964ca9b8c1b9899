//! A short soak: after thousands of faults the daemon uses no more than after the first ones.

use std::process::Command;

#[test]
fn what_faults_took_is_given_back() {
    pathpulse_faultdisk::require!();
    let output = Command::new(env!("CARGO_BIN_EXE_pathpulse-chaos"))
        .args(["--soak", "25s"])
        .output()
        .expect("runs");
    let (out, err) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out) + String::from_utf8_lossy(err);
    assert!(output.status.success(), "{}: {text}", output.status);
}
