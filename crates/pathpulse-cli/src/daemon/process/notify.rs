//! What systemd hears: sd_notify(3), from a thread of its own.
//!
//! systemd's socket may be as full as any; nobody but this thread waits for it. The watchdog is fed only
//! while each worker gets on, so that systemd restarts a daemon that has stopped watching.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use pathpulse::{Monitor, State};
use sd_notify::NotifyState;

use crate::daemon::http::probes::check_workers;

/// Words on their way.
const ROOM: usize = 16;
/// How often the line of `systemctl status` is looked at.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_millis(50);

/// What systemd is to hear.
#[derive(Debug)]
enum Word {
    Ready,
    Reloading,
    /// The daemon stops; say so when systemd was told.
    Stopping(SyncSender<()>),
}

/// The way to the thread that tells systemd. Without systemd it leads nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(Option<SyncSender<Word>>);

impl Notifier {
    /// Starts the thread, if there is anyone to tell.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(monitor: &Arc<Monitor>) -> Result<Notifier, String> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Notifier(None));
        }
        let (words, inbox) = sync_channel(ROOM);
        let teller = Teller {
            monitor: Arc::clone(monitor),
            watchdog: sd_notify::watchdog_enabled(),
            said: String::new(),
            failed: false,
            well: true,
        };
        crate::daemon::spawn("notify", move || teller.run(&inbox))?;
        Ok(Notifier(Some(words)))
    }

    /// The paths were tried to be opened, and commands are answered; or a reload is over.
    pub(crate) fn ready(&self) {
        self.tell(Word::Ready);
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        self.tell(Word::Reloading);
    }

    /// The daemon stops. Waits until systemd has been told, but not for long.
    pub(crate) fn stopping(&self) {
        let (done, told) = sync_channel(1);
        self.tell(Word::Stopping(done));
        let _ = told.recv_timeout(LAST_WORD);
    }

    fn tell(&self, word: Word) {
        if let Some(words) = &self.0 {
            let _ = words.try_send(word);
        }
    }
}

struct Teller {
    monitor: Arc<Monitor>,
    /// systemd ends the daemon when it hears nothing for so long.
    watchdog: Option<Duration>,
    /// The line of `systemctl status`, as it was said last.
    said: String,
    failed: bool,
    well: bool,
}

impl Teller {
    fn run(mut self, inbox: &Receiver<Word>) {
        let every = self
            .watchdog
            .map_or(STATUS_EVERY, |limit| (limit / 4).min(STATUS_EVERY));
        let mut next = Instant::now();
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Word::Ready) => self.send(&[NotifyState::Ready]),
                Ok(Word::Reloading) => match NotifyState::monotonic_usec_now() {
                    Ok(now) => self.send(&[NotifyState::Reloading, now]),
                    Err(_) => self.send(&[NotifyState::Reloading]),
                },
                Ok(Word::Stopping(done)) => {
                    self.send(&[NotifyState::Stopping]);
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + every;
                    self.look();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Feeds the watchdog, if all is well, and renews the line of `systemctl status`.
    fn look(&mut self) {
        let workers = check_workers(&self.monitor);
        let well = workers.is_ok();
        if well != self.well {
            match &workers {
                Ok(()) => tracing::info!("all workers get on again"),
                Err(why) => tracing::error!("{why}; the watchdog is not fed"),
            }
            self.well = well;
        }
        if well && self.watchdog.is_some() {
            self.send(&[NotifyState::Watchdog]);
        }
        let line = workers.map_or_else(|why| why, |()| summary(&self.monitor));
        if line != self.said {
            self.send(&[NotifyState::Status(&line)]);
            self.said = line;
        }
    }

    fn send(&mut self, words: &[NotifyState<'_>]) {
        match sd_notify::notify(words) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                tracing::warn!("telling systemd: {error}; NOTIFY_SOCKET says where");
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
