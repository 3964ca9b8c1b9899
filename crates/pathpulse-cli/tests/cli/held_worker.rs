//! Blocks one thread of a daemon, as a bug or a hung kernel would.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::common::{Daemon, lines, next_with};

/// A worker whose system calls take minutes; it continues when this is dropped.
pub(crate) struct HeldWorker(Child);

impl HeldWorker {
    /// Blocks the first worker of a daemon; `None` without strace.
    pub(crate) fn first_of(daemon: &Daemon) -> Option<HeldWorker> {
        let task = format!("/proc/{}/task", daemon.pid());
        let threads = fs::read_dir(task).expect("it lives").flatten();
        let mut workers = threads.filter(|thread| {
            let name = fs::read_to_string(thread.path().join("comm"));
            // The kernel keeps fifteen bytes of a name.
            name.is_ok_and(|name| name.trim() == "pathpulse-worke")
        });
        let worker = workers.next().expect("a worker").file_name();
        let mut strace = Command::new("strace")
            .arg("-p")
            .arg(worker)
            .args(["-o", "/dev/null", "-e", "inject=all:delay_enter=600000000"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let log = lines(strace.stderr.take().expect("piped"));
        next_with(&log, "attached");
        Some(HeldWorker(strace))
    }
}

impl Drop for HeldWorker {
    fn drop(&mut self) {
        // strace detaches from the thread when it ends.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
