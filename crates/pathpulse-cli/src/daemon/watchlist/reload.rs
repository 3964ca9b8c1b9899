//! Reading the configuration again, and doing what is different.

use std::collections::HashSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pathpulse::{Monitor, PathId};
use tokio::sync::oneshot;

use super::task::{Entry, Keeper, Origin, Stage};
use super::{Order, ReloadDocument, Reloaded};
use crate::daemon::config::{CommandLine, ConfigError, Configuration};
use crate::daemon::process::stop::Notice;

type Asker = Option<oneshot::Sender<Reloaded>>;

/// Reloads that were asked for.
pub(super) struct Reload {
    /// What the daemon was started with.
    line: CommandLine,
    /// The file is being read for these.
    now: Vec<Asker>,
    /// It is to be read again for these, who came when it was being read.
    next: Vec<Asker>,
}

impl Reload {
    pub(super) fn new(line: CommandLine) -> Reload {
        Reload {
            line,
            now: Vec::new(),
            next: Vec::new(),
        }
    }
}

impl Keeper {
    /// Has a thread wait for the file: it may lie on a disk that hangs.
    pub(super) fn begin_reload(&mut self, asker: Asker) {
        if self.reload.line.file.is_none() {
            let why = "there is no file to read again: the daemon was started without --config";
            tracing::info!("reload: {why}");
            answer(vec![asker], &Err(vec![why.to_owned()]));
            self.stopper.tell(Notice::Reloaded);
            return;
        }
        if !self.reload.now.is_empty() {
            self.reload.next.push(asker);
            return;
        }
        self.reload.now.push(asker);
        let (line, roster) = (self.reload.line.clone(), self.roster.clone());
        let before = self.configuration.text();
        let started = crate::daemon::spawn("reload", move || {
            let loaded = Configuration::load_again(&line, &before);
            roster.tell(Order::Loaded(Box::new(loaded)));
        });
        if let Err(why) = started {
            tracing::error!("reload: {why}");
            answer(mem::take(&mut self.reload.now), &Err(vec![why]));
            self.stopper.tell(Notice::Reloaded);
        }
    }

    /// The file was read: does what it says, or nothing if anything is wrong with it.
    pub(super) fn end_reload(&mut self, loaded: Result<Option<Configuration>, ConfigError>) {
        let reloaded = match loaded {
            Ok(new) => {
                let remarks = new.map_or(Vec::new(), |new| self.follow(new));
                Ok(ReloadDocument {
                    remarks,
                    ..self.become_as_said()
                })
            }
            Err(error) => {
                tracing::error!("not reloaded, all goes on as before: {}", error.line());
                Err(error.lines())
            }
        };
        if let Ok(done) = &reloaded {
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
        self.say_farewell();
        answer(mem::take(&mut self.reload.now), &reloaded);
        self.stopper.tell(Notice::Reloaded);
        let next = mem::take(&mut self.reload.next);
        for asker in next {
            self.begin_reload(asker);
        }
    }

    /// Another configuration holds from now on. Returns what of it does not.
    fn follow(&mut self, new: Configuration) -> Vec<String> {
        let remarks = new.needs_start(&self.configuration);
        self.configuration = new;
        self.journal.actions.follow(&self.configuration);
        remarks
    }

    /// Does what is different from what the configuration says; commands may have changed the list since it
    /// was read last. The list may be long and nothing on it different: nothing is looked up in it for each path.
    fn become_as_said(&mut self) -> ReloadDocument {
        let mut done = ReloadDocument::default();
        let mut named = self.configuration.names();
        let known = self.entries.len();
        let mut gone = Vec::new();
        let mut changed = Vec::new();
        let mut regrouped = Vec::new();
        // To reload is to say: watch what these names lead to.
        let astray: HashSet<PathId> = self.monitor.astray().into_iter().collect();
        for (name, entry) in &mut self.entries {
            let is_named = named.remove(&**name);
            if entry.origin == Origin::Named && !is_named {
                gone.push(name.clone());
                continue;
            }
            let is_astray = matches!(entry.stage, Stage::Watched(id) if astray.contains(&id));
            match adapt(entry, name, is_named, &self.configuration, &self.monitor) {
                Adapted::Same if !is_astray => continue,
                Adapted::Same | Adapted::Changed if is_astray => regrouped.push(name.clone()),
                Adapted::Same | Adapted::Changed => {}
                Adapted::Regrouped => regrouped.push(name.clone()),
                Adapted::Unwanted(ticket) => {
                    self.strays.insert((name.clone(), ticket), "reload");
                }
            }
            changed.push(name.clone());
        }
        let mut new: Vec<PathBuf> = named.into_iter().map(Path::to_path_buf).collect();
        new.sort();
        for name in &gone {
            self.leave(name, "reload");
        }
        for name in regrouped {
            // To the engine a path of another group, or to other storage, is another path.
            let origin = self.entries.get(&name).map(|entry| entry.origin.clone());
            self.leave(&name, "reload");
            self.enter(&[name], &origin.unwrap_or(Origin::Named), None);
        }
        self.enter(&new, &Origin::Named, None);
        // The rules may want less of what was found, too.
        let lost = self.search(Instant::now());
        changed.retain(|name| self.entries.contains_key(name));
        let left = known - gone.len() - lost;
        done.removed = known - left;
        done.changed = changed.len();
        done.unchanged = left - done.changed;
        done.added = self.entries.len() - left;
        done
    }
}

/// What a reload did to a path that stays.
enum Adapted {
    Same,
    /// It is watched in another way.
    Changed,
    /// It is to be in another group.
    Regrouped,
    /// What a thread is opening by this ticket is not what is wanted any more.
    Unwanted(u64),
}

/// Has one path watched as is said now.
fn adapt(
    entry: &mut Entry,
    name: &Path,
    named: bool,
    configuration: &Configuration,
    monitor: &Monitor,
) -> Adapted {
    // What a command added may have its group from there.
    let keeps_group = entry.origin == Origin::Told && !named;
    if named {
        entry.origin = Origin::Named;
        // It is waited for without any limit then.
        entry.lost = None;
    }
    let said = configuration.group_of(name);
    if said == entry.spec.group.as_deref() || (keeps_group && said.is_none()) {
        return match entry.suit(name, configuration, monitor) {
            true => Adapted::Changed,
            false => Adapted::Same,
        };
    }
    match &mut entry.stage {
        Stage::Watched(_) => Adapted::Regrouped,
        Stage::Waiting(waiting) => {
            entry.spec = configuration.spec(name);
            match waiting.forgo() {
                true => Adapted::Unwanted(mem::take(&mut entry.ticket)),
                false => Adapted::Changed,
            }
        }
    }
}

fn answer(askers: Vec<Asker>, reloaded: &Reloaded) {
    for asker in askers.into_iter().flatten() {
        let _ = asker.send(reloaded.clone());
    }
}
