//! A short soak test: the daemon's resource usage does not grow over thousands of faults.

use std::process::Command;

#[test]
fn resource_usage_does_not_grow() {
    pathpulse_faultdisk::require!();
    let output = Command::new(env!("CARGO_BIN_EXE_pathpulse-chaos"))
        .args(["--soak", "25s"])
        .output()
        .expect("runs");
    let (out, err) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out) + String::from_utf8_lossy(err);
    assert!(output.status.success(), "{}: {text}", output.status);
}
