//! Reading the configuration again and applying what is different.

use std::collections::HashSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pathpulse::{Monitor, PathId};
use tokio::sync::oneshot;

use super::entry::{Entry, OpenState, Origin};
use super::task::WatchlistTask;
use super::{ReloadResult, WatchlistMsg};
use crate::api::{PathCause, ReloadDocument};
use crate::daemon::config::{CommandLine, ConfigError, Configuration};
use crate::daemon::process::{MainMsg, spawn};

/// Where the result of a reload goes; `None` if SIGHUP asked for it.
type ReloadReply = Option<oneshot::Sender<ReloadResult>>;

/// Reloads that were asked for.
pub(super) struct Reload {
    /// The command line of the daemon.
    line: CommandLine,
    /// The file is being read for these.
    current: Vec<ReloadReply>,
    /// These came while the file was being read; it is read again for them.
    next: Vec<ReloadReply>,
}

impl Reload {
    pub(super) fn new(line: CommandLine) -> Reload {
        Reload {
            line,
            current: Vec::new(),
            next: Vec::new(),
        }
    }
}

impl WatchlistTask {
    /// Starts a thread that reads the file, which may be on a disk that hangs.
    pub(super) fn begin_reload(&mut self, reply: ReloadReply) {
        if self.reload.line.file.is_none() {
            let why = "there is no file to read again: the daemon was started without --config";
            tracing::info!("reload: {why}");
            send_result(vec![reply], &Err(vec![why.to_owned()]));
            self.stopper.send(MainMsg::Reloaded);
            return;
        }
        if !self.reload.current.is_empty() {
            self.reload.next.push(reply);
            return;
        }
        self.reload.current.push(reply);
        let (line, watchlist) = (self.reload.line.clone(), self.watchlist.clone());
        let before = self.configuration.text();
        let started = spawn("reload", move || {
            let loaded = Configuration::reload(&line, &before);
            watchlist.send(WatchlistMsg::Loaded(Box::new(loaded)));
        });
        if let Err(why) = started {
            tracing::error!("reload: {why}");
            send_result(mem::take(&mut self.reload.current), &Err(vec![why]));
            self.stopper.send(MainMsg::Reloaded);
        }
    }

    /// The file was read: applies it, or nothing of it if it has an error.
    pub(super) fn end_reload(&mut self, loaded: Result<Option<Configuration>, ConfigError>) {
        let result = match loaded {
            Ok(new) => {
                let remarks = new.map_or(Vec::new(), |new| self.set_configuration(new));
                Ok(ReloadDocument {
                    remarks,
                    ..self.apply_configuration()
                })
            }
            Err(error) => {
                tracing::error!(
                    "not reloaded, the configuration stays as it was: {}",
                    error.line()
                );
                Err(error.lines())
            }
        };
        if let Ok(done) = &result {
            log_reload(done);
        }
        self.finish_removals();
        send_result(mem::take(&mut self.reload.current), &result);
        self.stopper.send(MainMsg::Reloaded);
        for reply in mem::take(&mut self.reload.next) {
            self.begin_reload(reply);
        }
    }

    /// Sets the configuration. Returns the changes that need a restart.
    fn set_configuration(&mut self, new: Configuration) -> Vec<String> {
        let remarks = new.changes_needing_restart(&self.configuration);
        self.configuration = new;
        self.actions.set_configuration(&self.configuration);
        remarks
    }

    /// Makes the list match the configuration; commands may have changed it since the last reload.
    /// A list of thousands of paths without a change must be quick, so the loop looks nothing up.
    fn apply_configuration(&mut self) -> ReloadDocument {
        let mut named = self.configuration.names();
        let known = self.entries.len();
        let mut gone = Vec::new();
        let mut changed = Vec::new();
        let mut reopened = Vec::new();
        // A reload opens a name again that leads to another device by now.
        let astray: HashSet<PathId> = self.monitor.astray().into_iter().collect();
        for (name, entry) in &mut self.entries {
            let is_named = named.remove(&**name);
            if entry.origin == Origin::Configured && !is_named {
                gone.push(name.clone());
                continue;
            }
            let is_astray = matches!(entry.stage, OpenState::Open(id) if astray.contains(&id));
            match reconfigure(entry, name, is_named, &self.configuration, &self.monitor) {
                EntryChange::None if !is_astray => continue,
                EntryChange::None | EntryChange::Settings if is_astray => {
                    reopened.push(name.clone());
                }
                EntryChange::None | EntryChange::Settings => {}
                EntryChange::Group => reopened.push(name.clone()),
                EntryChange::StaleOpen(generation) => {
                    let open = (name.clone(), generation);
                    self.stale_opens.insert(open, PathCause::Reload);
                }
            }
            changed.push(name.clone());
        }
        let mut new: Vec<PathBuf> = named.into_iter().map(Path::to_path_buf).collect();
        new.sort();
        for name in &gone {
            self.remove(name, PathCause::Reload);
        }
        self.reopen(reopened);
        self.insert(&new, &Origin::Configured, None);
        // The rules of discovery may have changed, too.
        let undiscovered = self.search(Instant::now());
        changed.retain(|name| self.entries.contains_key(name));
        let left = known - gone.len() - undiscovered;
        ReloadDocument {
            removed: known - left,
            changed: changed.len(),
            unchanged: left - changed.len(),
            added: self.entries.len() - left,
            remarks: Vec::new(),
        }
    }

    /// Opens paths again. The engine can't move a path to another group or to another device.
    fn reopen(&mut self, names: Vec<PathBuf>) {
        for name in names {
            let origin = self.entries.get(&name).map(|entry| entry.origin.clone());
            self.remove(&name, PathCause::Reload);
            self.insert(&[name], &origin.unwrap_or(Origin::Configured), None);
        }
    }
}

fn log_reload(done: &ReloadDocument) {
    tracing::info!(
        "reloaded: {} paths added, {} removed, {} changed, {} as before",
        done.added,
        done.removed,
        done.changed,
        done.unchanged
    );
    for remark in &done.remarks {
        tracing::warn!("reload: {remark}");
    }
}

/// What a reload changed at an entry.
enum EntryChange {
    None,
    Settings,
    /// The path belongs to another group.
    Group,
    /// The open of this generation, which is under way, is for another group.
    StaleOpen(u64),
}

/// Applies the configuration to one entry.
fn reconfigure(
    entry: &mut Entry,
    name: &Path,
    is_named: bool,
    configuration: &Configuration,
    monitor: &Monitor,
) -> EntryChange {
    // The command `add` may have given the group.
    let keeps_group = entry.origin == Origin::Added && !is_named;
    if is_named {
        entry.origin = Origin::Configured;
        // A configured path waits for its disk without a limit.
        entry.missing = None;
    }
    let group = configuration.group_of(name);
    if group == entry.spec.group.as_deref() || (keeps_group && group.is_none()) {
        return match entry.apply_settings(name, configuration, monitor) {
            true => EntryChange::Settings,
            false => EntryChange::None,
        };
    }
    match &mut entry.stage {
        OpenState::Open(_) => EntryChange::Group,
        OpenState::Unopened(retry) => {
            entry.spec = configuration.spec(name);
            match retry.abandon_open() {
                true => EntryChange::StaleOpen(mem::take(&mut entry.open_generation)),
                false => EntryChange::Settings,
            }
        }
    }
}

fn send_result(replies: Vec<ReloadReply>, result: &ReloadResult) {
    for reply in replies.into_iter().flatten() {
        let _ = reply.send(result.clone());
    }
}
