//! The process that has the file, in tests of this binary: its tests, told to be that process.

use super::*;
use crate::daemon::events::keep_events;

/// Where the process is told its file.
const FILE: &str = "PATHPULSE_TEST_STATE";

/// No test, but that process, when it is started as such.
#[test]
#[ignore = "is started by other tests"]
fn is_the_process_that_keeps_events() {
    if let Some(file) = std::env::var_os(FILE) {
        keep_events(file.into());
    }
}

/// A way to a process that has this file, and its number; returns when it has read the file.
pub(crate) fn keeper_of(file: PathBuf) -> (Keeper, u32) {
    let (keeper, Keeping(keeping)) = Keeper::new(Some(file));
    let (file, inbox) = keeping.expect("a file");
    let mut command = Command::new("/proc/self/exe");
    let name = "is_the_process_that_keeps_events";
    command
        .args([
            "--quiet",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
            name,
        ])
        .env(FILE, file);
    let (ready, is_ready) = channel();
    let recall = Box::new(move |_, _| ready.send(()).expect("it is waited for"));
    let pid = start(command, inbox, recall).expect("starts");
    is_ready
        .recv_timeout(Duration::from_secs(30))
        .expect("it reads the file");
    (keeper, pid)
}
