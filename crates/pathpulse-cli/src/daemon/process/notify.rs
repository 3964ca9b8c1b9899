//! Reports to systemd by sd_notify(3), from a thread of its own.
//!
//! systemd's socket may be full, and only this thread waits for it. The watchdog is fed only while
//! all workers are responsive, so systemd restarts a daemon that has stopped watching.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use pathpulse::{Monitor, State};
use sd_notify::NotifyState;

use super::responsiveness::check_workers;
use super::threads::spawn;

/// Capacity of the queue to the thread.
const QUEUE_LEN: usize = 16;
/// Interval of updates of the line in `systemctl status`.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// How long the report that the daemon stops may take.
const STOPPING_LIMIT: Duration = Duration::from_millis(50);

/// Messages to the thread.
#[derive(Debug)]
enum NotifyMsg {
    Ready,
    Reloading,
    /// The daemon stops; reply when systemd has been told.
    Stopping(SyncSender<()>),
}

/// A handle of the thread. Without systemd it does nothing.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(Option<SyncSender<NotifyMsg>>);

impl Notifier {
    /// Starts the thread, if systemd started the daemon.
    ///
    /// # Errors
    /// Why there is no thread.
    pub(crate) fn start(monitor: &Arc<Monitor>) -> Result<Notifier, String> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Notifier(None));
        }
        let (messages, inbox) = sync_channel(QUEUE_LEN);
        let task = NotifyTask {
            monitor: Arc::clone(monitor),
            watchdog: sd_notify::watchdog_enabled(),
            status: String::new(),
            failed: false,
            responsive: true,
        };
        spawn("notify", move || task.run(&inbox))?;
        Ok(Notifier(Some(messages)))
    }

    /// The start is complete, or a reload is.
    pub(crate) fn ready(&self) {
        self.send(NotifyMsg::Ready);
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        self.send(NotifyMsg::Reloading);
    }

    /// The daemon stops. Waits a short time until systemd has been told.
    pub(crate) fn stopping(&self) {
        let (done, sent) = sync_channel(1);
        self.send(NotifyMsg::Stopping(done));
        let _ = sent.recv_timeout(STOPPING_LIMIT);
    }

    fn send(&self, message: NotifyMsg) {
        if let Some(messages) = &self.0 {
            let _ = messages.try_send(message);
        }
    }
}

struct NotifyTask {
    monitor: Arc<Monitor>,
    /// systemd ends the daemon after this time without a message.
    watchdog: Option<Duration>,
    /// The last line of `systemctl status`.
    status: String,
    failed: bool,
    responsive: bool,
}

impl NotifyTask {
    fn run(mut self, inbox: &Receiver<NotifyMsg>) {
        let every = self
            .watchdog
            .map_or(STATUS_INTERVAL, |limit| (limit / 4).min(STATUS_INTERVAL));
        let mut next = Instant::now();
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(NotifyMsg::Ready) => self.send(&[NotifyState::Ready]),
                Ok(NotifyMsg::Reloading) => match NotifyState::monotonic_usec_now() {
                    Ok(now) => self.send(&[NotifyState::Reloading, now]),
                    Err(_) => self.send(&[NotifyState::Reloading]),
                },
                Ok(NotifyMsg::Stopping(done)) => {
                    self.send(&[NotifyState::Stopping]);
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + every;
                    self.update();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Feeds the watchdog if all workers are responsive, and updates the line of `systemctl
    /// status`.
    fn update(&mut self) {
        let workers = check_workers(&self.monitor);
        let responsive = workers.is_ok();
        if responsive != self.responsive {
            match &workers {
                Ok(()) => tracing::info!("all workers are responsive again"),
                Err(why) => tracing::error!("{why}; the watchdog is not fed"),
            }
            self.responsive = responsive;
        }
        if responsive && self.watchdog.is_some() {
            self.send(&[NotifyState::Watchdog]);
        }
        let line = workers.map_or_else(|why| why, |()| summary(&self.monitor));
        if line != self.status {
            self.send(&[NotifyState::Status(&line)]);
            self.status = line;
        }
    }

    fn send(&mut self, states: &[NotifyState<'_>]) {
        match sd_notify::notify(states) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                tracing::warn!("reporting to systemd: {error}; NOTIFY_SOCKET names its socket");
                self.failed = true;
            }
            Err(_) => {}
        }
    }
}

fn summary(monitor: &Monitor) -> String {
    let all = monitor.status();
    let known = all.iter().filter(|(_, path)| !path.overdue);
    let count = |state| {
        known
            .clone()
            .filter(|(_, path)| path.state == state)
            .count()
    };
    let mut line = format!("{} of {} paths up", count(State::Up), all.len());
    for state in [State::Marginal, State::Down, State::Paused] {
        match count(state) {
            0 => {}
            some => line += &format!(", {some} {state}"),
        }
    }
    let overdue = all.len() - known.clone().count();
    if overdue > 0 {
        line += &format!(", {overdue} overdue");
    }
    let stuck = all.iter().filter(|(_, path)| path.stuck.is_some()).count();
    if stuck > 0 {
        line += &format!(", {stuck} reads stuck");
    }
    line
}
