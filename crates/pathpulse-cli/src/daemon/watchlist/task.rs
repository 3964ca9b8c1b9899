//! The thread that owns the watchlist.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use pathpulse::{Monitor, Released, display_name};

use super::discovered::{DiskSearch, start_uevent_thread};
use super::entry::{Entry, OpenState, Origin};
use super::open_errors::OpenErrors;
use super::open_retry::OpenRetry;
use super::opening::PendingReply;
use super::reload::Reload;
use super::removal::Removal;
use super::{Watchlist, WatchlistMsg};
use crate::api::{Name, PathAction, PathCause, UnopenedPath};
use crate::daemon::actions::Actions;
use crate::daemon::config::{CommandLine, Configuration};
use crate::daemon::events::EventLog;
use crate::daemon::process::{MainMsg, Stopper};

/// How long the start waits for paths to open.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Messages that are handled before the list is published again.
const BATCH: usize = 1_000;

/// The state of the thread. See the module `watchlist`.
pub(crate) struct WatchlistTask {
    pub(super) watchlist: Watchlist,
    pub(super) monitor: Arc<Monitor>,
    pub(super) actions: Actions,
    pub(super) configuration: Configuration,
    pub(super) reload: Reload,
    pub(super) search: DiskSearch,
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    pub(super) event_log: EventLog,
    pub(super) stopper: Stopper,
    /// Open errors that are not logged yet.
    pub(super) open_errors: OpenErrors,
    /// Paths that left the engine and whose last event is not published yet.
    pub(super) removals: Vec<Removal>,
    /// Paused paths whose devices are not free yet.
    pub(super) releasing: Vec<(PathBuf, Released)>,
    /// Opens under way whose results nothing needs any more, with the cause.
    pub(super) stale_opens: HashMap<(PathBuf, u64), PathCause>,
    pub(super) pending_replies: Vec<PendingReply>,
    pub(super) next_open_generation: u64,
    next_order: u64,
    /// Until when the start waits for its paths; `None` after the start.
    starting: Option<Instant>,
}

impl WatchlistTask {
    pub(crate) fn new(
        watchlist: Watchlist,
        (monitor, event_log, actions): (Arc<Monitor>, EventLog, Actions),
        stopper: Stopper,
        configuration: Configuration,
        line: CommandLine,
    ) -> WatchlistTask {
        WatchlistTask {
            watchlist,
            monitor,
            actions,
            configuration,
            reload: Reload::new(line),
            search: DiskSearch::new(),
            entries: BTreeMap::new(),
            event_log,
            stopper,
            open_errors: OpenErrors::default(),
            removals: Vec::new(),
            releasing: Vec::new(),
            stale_opens: HashMap::new(),
            pending_replies: Vec::new(),
            next_open_generation: 1,
            next_order: 0,
            starting: Some(Instant::now() + START_LIMIT),
        }
    }

    /// Runs until all handles of the list are gone.
    pub(crate) fn run(mut self, inbox: &Receiver<WatchlistMsg>) {
        let named = self.configuration.named();
        let named: Vec<PathBuf> = named.iter().map(|(name, _)| name.to_path_buf()).collect();
        self.insert(&named, &Origin::Configured, None);
        start_uevent_thread(&self.watchlist);
        loop {
            self.step();
            let message = match self.next_due() {
                None => inbox.recv().map_err(RecvTimeoutError::from),
                Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Thousands of results of opens may wait; the list is published once for all of them.
            for message in inbox.try_iter().take(BATCH) {
                self.handle(message);
            }
        }
    }

    /// Does what is due now.
    fn step(&mut self) {
        if self.search.next <= Instant::now() {
            self.search(Instant::now());
        }
        self.open_due(Instant::now());
        // The list is published before replies are sent, so that a client finds what it was told.
        self.finish_removals();
        self.publish();
        self.send_pending_replies(Instant::now());
        self.open_errors.log_due(Instant::now());
        self.finish_start(Instant::now());
    }

    fn next_due(&self) -> Option<Instant> {
        let entries = self
            .entries
            .values()
            .filter_map(|entry| match &entry.stage {
                OpenState::Unopened(retry) => retry.due(),
                OpenState::Open(_) => None,
            });
        let replies = self.pending_replies.iter().map(|reply| reply.deadline);
        let times = entries.chain(replies).chain(self.starting);
        let times = times.chain(self.open_errors.due());
        times.chain([self.search.next]).min()
    }

    fn handle(&mut self, message: WatchlistMsg) {
        match message {
            WatchlistMsg::Apply(PathAction::Add, paths, reply) => self.add(paths, reply),
            WatchlistMsg::Apply(action, paths, reply) => {
                let names = paths.paths.into_iter().map(|Name(name)| name);
                let mut answers = self.apply_to_all(action, names);
                let mut held = self.finish_removals();
                held.extend(self.wait_released());
                for answer in &mut answers {
                    answer.note_held(&held);
                }
                let _ = reply.send(answers);
            }
            WatchlistMsg::Reload(reply) => self.begin_reload(reply),
            WatchlistMsg::Loaded(loaded) => self.end_reload(*loaded),
            WatchlistMsg::DevicesChanged(changes) => self.devices_changed(&changes),
            WatchlistMsg::Opened {
                name,
                open_generation,
                answer,
            } => self.opened(&name, open_generation, answer),
        }
    }

    /// Adds paths that are not on the list yet.
    pub(super) fn insert(&mut self, names: &[PathBuf], origin: &Origin, group: Option<&str>) {
        let now = Instant::now();
        for name in names {
            let mut spec = self.configuration.spec(name);
            if let Some(group) = group {
                spec.group = Some(group.to_owned());
                spec.settings = Some(self.configuration.settings_of(name, Some(group)));
            }
            let mut retry = OpenRetry::new(now, SystemTime::now());
            if self.stale_opens.keys().any(|(stale, _)| stale == name) {
                retry.block();
            }
            let new = Entry {
                origin: origin.clone(),
                spec,
                stage: OpenState::Unopened(retry),
                missing: None,
                order: self.next_order,
                open_generation: 0,
            };
            self.next_order += 1;
            self.entries.entry(name.clone()).or_insert(new);
        }
    }

    /// Removes a path from the list.
    pub(super) fn remove(&mut self, name: &Path, cause: PathCause) {
        let Some(entry) = self.entries.remove(name) else {
            return;
        };
        tracing::info!("{} is watched no longer ({cause})", display_name(name));
        match entry.stage {
            OpenState::Open(id) => self.remove_from_engine(id, cause, "is watched no longer"),
            OpenState::Unopened(mut retry) => {
                if retry.abandon_open() {
                    let open = (name.to_owned(), entry.open_generation);
                    self.stale_opens.insert(open, cause);
                }
            }
        }
    }

    /// Reports the result of the start, once all paths have opened or failed to.
    fn finish_start(&mut self, now: Instant) {
        let is_decided = |entry: &Entry| match &entry.stage {
            OpenState::Unopened(retry) => retry.problem.is_some(),
            OpenState::Open(_) => true,
        };
        let has_time = self.starting.is_some_and(|until| now < until);
        if self.starting.is_none() || (has_time && !self.entries.values().all(is_decided)) {
            return;
        }
        self.starting = None;
        self.open_errors.log();
        let watched = |entry: &&Entry| matches!(entry.stage, OpenState::Open(_));
        let unopened = |entry: &&Entry| !watched(entry) && entry.is_same_as().is_none();
        let may_open = |entry: &Entry| match &entry.stage {
            OpenState::Unopened(retry) => retry.may_succeed(),
            OpenState::Open(_) => true,
        };
        let may_discover = self.configuration.discovery().is_some();
        self.stopper.send(MainMsg::Opened {
            watched: self.entries.values().filter(watched).count(),
            unopened: self.entries.values().filter(unopened).count(),
            hopeless: !may_discover && !self.entries.values().any(may_open),
        });
    }

    fn publish(&self) {
        let unopened = self.entries.iter().filter_map(|(name, entry)| {
            let OpenState::Unopened(retry) = &entry.stage else {
                return None;
            };
            // A discovered path whose device is open by another name is of no interest to anyone.
            if entry.is_discovered() && !retry.may_succeed() && entry.missing.is_none() {
                return None;
            }
            let (cause, message, group) = match &entry.missing {
                Some(disk) => (PathCause::DeviceGone, disk.message(), &disk.group),
                None => (PathCause::NotOpen, retry.message(), &entry.spec.group),
            };
            Some(UnopenedPath {
                name: name.clone(),
                group: group.clone(),
                since: retry.since,
                begun: retry.begun,
                cause,
                message,
                same_as: retry.is_same_as().map(Path::to_path_buf),
            })
        });
        self.watchlist.publish(unopened.collect());
    }
}
