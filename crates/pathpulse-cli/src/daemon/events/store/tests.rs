//! The process that owns the file, in tests of this binary: the test binary itself.

use super::*;
use crate::daemon::events::keep_events;

/// The variable that gives the process its file.
const FILE: &str = "PATHPULSE_TEST_STATE";

/// Not a test: the process, when the variable is set.
#[test]
#[ignore = "is started by other tests"]
fn is_the_process_that_keeps_events() {
    if let Some(file) = std::env::var_os(FILE) {
        keep_events(file.into());
    }
}

/// A store in this file whose process has read the file, and the number of the process.
pub(crate) fn store_of(file: PathBuf) -> (EventStore, u32) {
    let (store, EventStoreInbox(inbox)) = EventStore::new(Some(file));
    let (file, inbox) = inbox.expect("a file");
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
    let on_restored = Box::new(move |_, _| ready.send(()).expect("it is waited for"));
    let pid = start(command, inbox, on_restored).expect("starts");
    is_ready
        .recv_timeout(Duration::from_secs(30))
        .expect("it reads the file");
    (store, pid)
}
