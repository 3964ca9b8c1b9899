//! Programs that are run on events: a few at a time, each for so long at most, and those about the same path
//! one after the other.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::api::document::EventDocument;
use crate::daemon::config::Hook;
use crate::daemon::metrics::daemon::Tally;

/// Programs that run at a time.
const AT_A_TIME: usize = 4;
/// Events that wait for a program; when there are more, they are counted and lost to programs.
const ROOM: usize = 1_024;
/// How long a program that was killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// What the service manager told the daemon about itself. A program that took it for its own would speak
/// in the daemon's name, or wait for descriptors that it does not have.
const NOT_FOR_PROGRAMS: [&str; 11] = [
    "FDSTORE",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The way to the threads that run programs. Clones are the same.
#[derive(Clone)]
pub(super) struct Hooks(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Queue {
    hooks: Vec<Arc<Hook>>,
    jobs: VecDeque<Job>,
    /// Paths that a program is running for.
    busy: HashSet<String>,
    threads: usize,
    /// Since the last word about it.
    lost: u64,
}

struct Job {
    hook: Arc<Hook>,
    event: Arc<EventDocument>,
}

impl Queue {
    /// The first job about a path that no program is running for.
    fn take(&mut self) -> Option<Job> {
        let free = |job: &Job| !self.busy.contains(&job.event.path);
        let place = self.jobs.iter().position(free)?;
        let job = self.jobs.remove(place)?;
        self.busy.insert(job.event.path.clone());
        Some(job)
    }
}

impl Hooks {
    /// Runs none yet; `tally` counts what is lost.
    pub(super) fn new(tally: Arc<Tally>) -> Hooks {
        Hooks(Arc::new(Shared {
            queue: Mutex::default(),
            news: Condvar::new(),
            tally,
        }))
    }

    /// Runs these from now on. What waits already is run as it was to be.
    pub(super) fn set(&self, hooks: &[Hook]) {
        self.0.lock().hooks = hooks.iter().cloned().map(Arc::new).collect();
    }

    /// Has the programs run that this event is for.
    pub(super) fn tell(&self, event: &EventDocument) {
        let mut queue = self.0.lock();
        let name = event.name();
        let wanted: Vec<Arc<Hook>> = queue
            .hooks
            .iter()
            .filter(|hook| hook.is_for(&name, &event.from, &event.to))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return;
        }
        let event = Arc::new(event.clone());
        for hook in wanted {
            if queue.jobs.len() == ROOM {
                queue.lost += 1;
                self.0.tally.count_lost_to_hooks();
                if queue.lost == 1 {
                    tracing::error!("events are lost to programs: {ROOM} wait already");
                }
                continue;
            }
            let event = Arc::clone(&event);
            queue.jobs.push_back(Job { hook, event });
        }
        if queue.threads < AT_A_TIME && queue.threads < queue.jobs.len() + queue.busy.len() {
            let shared = Arc::clone(&self.0);
            match crate::daemon::spawn("hook", move || shared.work()) {
                Ok(()) => queue.threads += 1,
                Err(why) => tracing::error!("a program has to wait: {why}"),
            }
        }
        self.0.news.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let job = self.next();
            run(&job);
            let mut queue = self.lock();
            queue.busy.remove(&job.event.path);
            if queue.jobs.is_empty() && queue.lost > 0 {
                tracing::warn!("{} events were lost to programs", queue.lost);
                queue.lost = 0;
            }
            // What waited for this path may be run now.
            self.news.notify_one();
        }
    }

    fn next(&self) -> Job {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.take() {
                return job;
            }
            let woken = self.news.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs a program to its end, or until its time is over.
fn run(job: &Job) {
    let Job { hook, event } = job;
    let name = &hook.run[0];
    let mut command = Command::new(name);
    for variable in NOT_FOR_PROGRAMS {
        command.env_remove(variable);
    }
    let child = command
        .args(&hook.run[1..])
        .envs(environment(event))
        // It can be ended with all that it started, and hears no signal that is for us.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let (path, to) = (&event.path, &event.to);
    match child {
        Err(error) => tracing::error!("{name} for {path} ({to}): {error}"),
        Ok(child) => match wait(child, hook.limit) {
            Some(status) if status.success() => tracing::debug!("{name} for {path} ({to}): done"),
            Some(status) => tracing::warn!("{name} for {path} ({to}): {status}"),
            None => tracing::warn!(
                "{name} for {path} ({to}): ended by force after {:?}",
                hook.limit
            ),
        },
    }
}

/// What a program is told, beside the words of its command line.
///
/// The path's name is there byte for byte, and once more as text on one line, as everywhere else.
fn environment(event: &EventDocument) -> [(&'static str, OsString); 9] {
    let text = |text: &str| OsString::from(text);
    [
        ("PATHPULSE_TIME", text(&event.time)),
        ("PATHPULSE_PATH", event.name().into()),
        ("PATHPULSE_PATH_TEXT", text(&event.path)),
        ("PATHPULSE_DEVICE", text(&event.device)),
        ("PATHPULSE_FROM", text(&event.from)),
        ("PATHPULSE_TO", text(&event.to)),
        ("PATHPULSE_CAUSE", text(&event.cause)),
        (
            "PATHPULSE_ERRNO",
            text(event.errno.as_deref().unwrap_or("")),
        ),
        ("PATHPULSE_DETAIL", text(&event.detail)),
    ]
}

/// Waits for a program's end; `None` when it had to be killed. One that even that does not end, since a
/// device holds it in the kernel, is left behind.
fn wait(mut child: Child, limit: Duration) -> Option<ExitStatus> {
    let pid = Pid::from_child(&child);
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return child.wait().ok();
    };
    let ended = |limit: Duration| {
        let limit = Timespec::try_from(limit).ok();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        matches!(poll(&mut fds, limit.as_ref()), Ok(1..))
    };
    if ended(limit) {
        return child.wait().ok();
    }
    let _ = kill_process_group(pid, Signal::KILL);
    if ended(KILL_LIMIT) {
        let _ = child.wait();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &str) -> Arc<EventDocument> {
        let text = |text: &str| text.to_owned();
        Arc::new(EventDocument {
            time: text("2026-11-22T14:00:00.123456Z"),
            path: text(path),
            device: text("8:0"),
            from: text("up"),
            to: text("down"),
            cause: text("timed_out"),
            errno: None,
            detail: text("no answer"),
        })
    }

    fn job(path: &str) -> Job {
        let hook = Arc::new(Hook::default());
        let event = event(path);
        Job { hook, event }
    }

    #[test]
    fn programs_about_the_same_path_run_one_after_the_other() {
        let mut queue = Queue::default();
        queue.jobs.extend(["a", "a", "b"].map(job));
        let take = |queue: &mut Queue| queue.take().map(|job| job.event.path.clone());
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
        assert_eq!(take(&mut queue).as_deref(), Some("b"));
        assert_eq!(take(&mut queue), None);
        queue.busy.remove("a");
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).process_group(0);
            command.spawn().expect("starts")
        };
        let status = wait(shell("exit 3"), Duration::from_secs(30));
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert!(wait(shell("sleep 600 & sleep 600"), Duration::from_millis(50)).is_none());
    }
}
