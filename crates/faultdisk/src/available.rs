//! Whether a rig can be started here, and how a test says that it was skipped.

use std::io::{self, Write};
use std::path::Path;

/// Whether a rig can be started here.
///
/// # Errors
/// What is missing, in words for a person: root, `/dev/fuse` or `/dev/loop-control`.
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

/// Says on stderr, past the test harness's capture, that the running test was skipped and why.
pub fn report_skip(reason: &str) {
    let thread = std::thread::current();
    let _ = writeln!(
        io::stderr(),
        "SKIPPED {}: {reason}",
        thread.name().unwrap_or("test")
    );
}

/// Returns from the calling test, with one line `SKIPPED <test>: <reason>` on stderr, where no rig can be started.
#[macro_export]
macro_rules! require {
    () => {
        if let Err(reason) = $crate::available() {
            $crate::report_skip(&reason);
            return;
        }
    };
}
