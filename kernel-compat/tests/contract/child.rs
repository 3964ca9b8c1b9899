//! A separate process that reads disks, for scenarios that end it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{fs, thread};

use pathpulse_kernel_compat::{Errno, Mono, Op, Outcome, Shutdown, exit_now};

use crate::backends::{BACKENDS, Open, Sizes, TestedBackend};
use crate::disks::open;
use crate::fixture::{BLOCK, TIMEOUT};

/// The first argument of such a process.
pub(crate) const ROLE: &str = "read-disks";

const NOWAIT: &str = "nowait";

/// The process as its parent sees it.
pub(crate) struct Reader {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Reader {
    /// The longest time that the process takes to stop.
    pub(crate) const STOP_WITHIN: Duration = Duration::from_millis(200);

    /// Starts a process that makes one read of each disk, with a late deadline.
    pub(crate) fn start(tested: &TestedBackend, paths: &[PathBuf], nowait: bool) -> Reader {
        let mut child = Command::new("/proc/self/exe")
            .arg(ROLE)
            .arg(tested.name)
            .arg(if nowait { NOWAIT } else { "plain" })
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = child.stdin.take();
        let output = child.stdout.take().expect("its output");
        Reader {
            child,
            input,
            output: BufReader::new(output),
        }
    }

    /// Waits until this many reads were refused with EAGAIN. Then no thread of the process is in D
    /// state, unless the reads of its backend are.
    pub(crate) fn wait_refused(&mut self, count: usize) {
        for _ in 0..count {
            let mut line = String::new();
            self.output.read_line(&mut line).expect("a line");
            assert_eq!(line, "EAGAIN\n");
        }
    }

    /// Kernel states of the process's threads, as in proc_pid_stat(5).
    pub(crate) fn states(&self) -> Vec<char> {
        states(self.child.id())
    }

    /// Waits until one of the process's threads is in D state in two checks, because it may just be
    /// reading a file.
    pub(crate) fn wait_blocked(&self) {
        let begin = Mono::now();
        let mut seen = 0;
        while seen < 2 {
            assert!(Mono::now().since(begin) < TIMEOUT, "{:?}", self.states());
            seen = if self.states().contains(&'D') {
                seen + 1
            } else {
                0
            };
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn request_stop(&mut self) {
        self.input.take();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    /// Waits for the end.
    pub(crate) fn wait_end(&mut self) {
        self.child.wait().expect("wait");
    }

    /// Waits until the process is dying: its main thread has ended, or waits for a device while it
    /// ends.
    pub(crate) fn wait_dying(&self) {
        let begin = Mono::now();
        loop {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("stat");
            if matches!(state(&stat), Some('Z' | 'D' | 'X')) {
                return;
            }
            assert!(Mono::now().since(begin) < TIMEOUT, "{stat}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // It may have to wait for disks that are released later. The system reaps it when this
        // process ends.
        let _ = self.child.try_wait();
    }
}

/// Kernel states of a process's threads.
pub(crate) fn states(pid: u32) -> Vec<char> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let stats = tasks.into_iter().flatten().flatten();
    stats
        .filter_map(|task| state(&fs::read_to_string(task.path().join("stat")).ok()?))
        .collect()
}

/// The third field of a stat file. The second is in parentheses and may contain anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The main function of the process. Its arguments are a backend's name, how to read, and the paths
/// of the disks.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let named = |tested: &&TestedBackend| args[0] == tested.name;
    let tested = BACKENDS.iter().find(named).expect("a backend");
    let Open::Real(open_backend) = tested.open else {
        panic!("{} has no process", tested.name);
    };
    let mut backend = open_backend(&Sizes::default()).expect("the backend opens");
    for (token, path) in (0..).zip(&args[2..]) {
        let file = open(path.as_ref()).expect("open a disk");
        let op = Op {
            target: backend.attach(file.into(), tested.submission),
            offset: 0,
            len: BLOCK,
            deadline: Mono::now() + TIMEOUT * 100,
            nowait: args[1] == NOWAIT,
            token,
        };
        backend.submit(op).expect("the backend accepts the read");
    }
    let waker = backend.waker();
    thread::spawn(move || {
        // The end of the input is the request to stop.
        let _ = std::io::stdin().read_line(&mut String::new());
        waker.wake();
    });
    let mut completions = Vec::new();
    loop {
        backend
            .wait(None, &mut completions)
            .expect("the backend works");
        if completions.is_empty() {
            break;
        }
        for completion in completions.drain(..) {
            assert_eq!(completion.outcome, Outcome::Failed(Errno::EAGAIN));
            let mut out = std::io::stdout();
            writeln!(out, "EAGAIN")
                .and_then(|()| out.flush())
                .expect("the parent reads the output");
        }
    }
    let left = backend.shutdown(Mono::now() + Reader::STOP_WITHIN);
    assert!(matches!(left, Shutdown::Quarantined(_)));
    drop(backend);
    exit_now(0)
}
