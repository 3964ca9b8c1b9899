//! Programs that are run on events: a few at a time, each with a time limit. Programs for the same
//! path run one after the other.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::api::EventDocument;
use crate::daemon::config::Hook;
use crate::daemon::events::EventCounters;
use crate::daemon::process::spawn;

/// Programs that run at the same time.
const CONCURRENT_MAX: usize = 4;
/// Capacity of the queue. What does not fit is counted and not run.
const QUEUE_LEN: usize = 1_024;
/// How long a killed program may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// Variables of the service manager for the daemon. A program that used them would report in the
/// daemon's name, or wait for descriptors that it does not have.
const PRIVATE_VARIABLES: [&str; 11] = [
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

/// A handle of the threads that run programs. Clones are handles of the same threads.
#[derive(Clone)]
pub(super) struct Hooks(Arc<HookRunner>);

struct HookRunner {
    queue: Mutex<HookQueue>,
    job_ready: Condvar,
    counters: Arc<EventCounters>,
}

#[derive(Default)]
struct HookQueue {
    hooks: Vec<Arc<Hook>>,
    jobs: VecDeque<Job>,
    /// Paths for which a program is running.
    busy: HashSet<String>,
    threads: usize,
    /// Jobs lost since the last log line about it.
    lost: u64,
}

struct Job {
    hook: Arc<Hook>,
    event: Arc<EventDocument>,
}

impl HookQueue {
    /// The first job for a path that is not busy; the path becomes busy.
    fn take(&mut self) -> Option<Job> {
        let free = |job: &Job| !self.busy.contains(&job.event.path);
        let place = self.jobs.iter().position(free)?;
        let job = self.jobs.remove(place)?;
        self.busy.insert(job.event.path.clone());
        Some(job)
    }
}

impl Hooks {
    /// Runs nothing until [`Hooks::set`]. `counters` counts the jobs that are lost.
    pub(super) fn new(counters: Arc<EventCounters>) -> Hooks {
        Hooks(Arc::new(HookRunner {
            queue: Mutex::default(),
            job_ready: Condvar::new(),
            counters,
        }))
    }

    /// Sets the programs for future events. Queued jobs stay.
    pub(super) fn set(&self, hooks: &[Hook]) {
        self.0.lock().hooks = hooks.iter().cloned().map(Arc::new).collect();
    }

    /// Queues the programs for an event.
    pub(super) fn notify(&self, event: &EventDocument) {
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
            if queue.jobs.len() == QUEUE_LEN {
                queue.lost += 1;
                self.0.counters.count_hook_lost();
                if queue.lost == 1 {
                    tracing::error!(
                        "programs are not run on some events: {QUEUE_LEN} wait already"
                    );
                }
                continue;
            }
            let event = Arc::clone(&event);
            queue.jobs.push_back(Job { hook, event });
        }
        if queue.threads < CONCURRENT_MAX && queue.threads < queue.jobs.len() + queue.busy.len() {
            let shared = Arc::clone(&self.0);
            match spawn("hook", move || shared.work()) {
                Ok(()) => queue.threads += 1,
                Err(why) => tracing::error!("programs run later than they should: {why}"),
            }
        }
        self.0.job_ready.notify_one();
    }
}

impl HookRunner {
    fn lock(&self) -> MutexGuard<'_, HookQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let job = self.next();
            run(&job);
            let mut queue = self.lock();
            queue.busy.remove(&job.event.path);
            if queue.jobs.is_empty() && queue.lost > 0 {
                tracing::warn!("{} programs were not run on events", queue.lost);
                queue.lost = 0;
            }
            // The next job for this path may run now.
            self.job_ready.notify_one();
        }
    }

    fn next(&self) -> Job {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.take() {
                return job;
            }
            let woken = self.job_ready.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs a program until it ends or its time limit is over.
fn run(job: &Job) {
    let Job { hook, event } = job;
    let name = &hook.run[0];
    let mut command = Command::new(name);
    for variable in PRIVATE_VARIABLES {
        command.env_remove(variable);
    }
    let child = command
        .args(&hook.run[1..])
        .envs(environment(event))
        // So it can be killed with its children, and gets no signal that is for the daemon.
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
            None => tracing::warn!("{name} for {path} ({to}): killed after {:?}", hook.limit),
        },
    }
}

/// The environment of a program: the event. It has the name of the path as bytes and as escaped
/// text.
fn environment(event: &EventDocument) -> [(&'static str, OsString); 9] {
    let text = |text: &str| OsString::from(text);
    [
        ("PATHPULSE_TIME", text(&event.time)),
        ("PATHPULSE_PATH", event.name().into()),
        ("PATHPULSE_PATH_TEXT", text(&event.path)),
        ("PATHPULSE_DEVICE", text(&event.device)),
        ("PATHPULSE_FROM", text(event.from.as_str())),
        ("PATHPULSE_TO", text(event.to.as_str())),
        ("PATHPULSE_CAUSE", text(event.cause.as_str())),
        (
            "PATHPULSE_ERRNO",
            text(event.errno.as_ref().map_or("", |errno| &errno.0)),
        ),
        ("PATHPULSE_DETAIL", text(&event.detail)),
    ]
}

/// Waits until a program ends; kills it after `limit` and returns `None`. A program that a device
/// holds in the kernel does not end by SIGKILL, either; it is left behind.
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
            from: "up".into(),
            to: "down".into(),
            cause: "timed_out".into(),
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
        let mut queue = HookQueue::default();
        queue.jobs.extend(["a", "a", "b"].map(job));
        let take = |queue: &mut HookQueue| queue.take().map(|job| job.event.path.clone());
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
