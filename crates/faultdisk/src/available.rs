//! Whether a rig can be started here, and the report of a skipped test.

use std::io::{self, Write};
use std::path::Path;

/// Whether a rig can be started here.
///
/// # Errors
/// What is missing, as a message for the user: root, `/dev/fuse` or `/dev/loop-control`.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("fault disks need root (mounts and loop devices)".into());
    }
    for (node, hint) in [
        ("/dev/fuse", "modprobe fuse"),
        ("/dev/loop-control", "modprobe loop"),
    ] {
        if let Err(error) = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(Path::new(node))
        {
            return Err(format!("fault disks need {node}: {error} (try: {hint})"));
        }
    }
    Ok(())
}

/// Reports that the running test was skipped, and why. Writes to stderr directly, so that the test
/// harness does not capture it.
pub fn report_skip(reason: &str) {
    let thread = std::thread::current();
    let _ = writeln!(
        io::stderr(),
        "SKIPPED {}: {reason}",
        thread.name().unwrap_or("test")
    );
}

/// Returns from the calling test if no rig can be started, with one line `SKIPPED <test>: <reason>`
/// on stderr.
#[macro_export]
macro_rules! require {
    () => {
        if let Err(reason) = $crate::available() {
            $crate::report_skip(&reason);
            return;
        }
    };
}
