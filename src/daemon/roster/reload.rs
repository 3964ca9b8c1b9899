//! Reading the configuration again, and doing what is different.

use std::collections::BTreeSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::oneshot;

use super::keeper::{Keeper, Origin, Stage};
use super::{Order, ReloadDocument, Reloaded};
use crate::daemon::config::{CommandLine, ConfigError, Configuration};
use crate::daemon::stop::Notice;

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
        let started = crate::daemon::spawn("reload", move || {
            let loaded = Configuration::load_apart(&line);
            roster.tell(Order::Loaded(Box::new(loaded)));
        });
        if let Err(why) = started {
            tracing::error!("reload: {why}");
            answer(mem::take(&mut self.reload.now), &Err(vec![why]));
            self.stopper.tell(Notice::Reloaded);
        }
    }

    /// The file was read: does what it says, or nothing if anything is wrong with it.
    pub(super) fn end_reload(&mut self, loaded: Result<Configuration, ConfigError>) {
        let reloaded = match loaded {
            Ok(configuration) => Ok(self.become_as(configuration)),
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

    fn become_as(&mut self, new: Configuration) -> ReloadDocument {
        let mut done = ReloadDocument {
            remarks: new.needs_start(&self.configuration),
            ..ReloadDocument::default()
        };
        self.configuration = new;
        self.journal.actions.follow(&self.configuration);
        let named = self.configuration.named();
        let named: BTreeSet<PathBuf> = named.iter().map(|(name, _)| name.to_path_buf()).collect();
        let gone = |(name, entry): (&PathBuf, &super::keeper::Entry)| {
            (entry.origin == Origin::Named && !named.contains(name)).then(|| name.clone())
        };
        let gone: Vec<PathBuf> = self.entries.iter().filter_map(gone).collect();
        for name in &gone {
            self.leave(name, "reload");
        }
        let known: BTreeSet<PathBuf> = self.entries.keys().cloned().collect();
        let mut changed: Vec<&PathBuf> = known.iter().collect();
        changed.retain(|name| self.adapt(name, named.contains(*name)));
        let named: Vec<PathBuf> = named.into_iter().collect();
        self.enter(&named, &Origin::Named, None);
        self.search(Instant::now());
        // The rules may want less of what was found, too.
        let stayed = |name: &&PathBuf| self.entries.contains_key(*name);
        let left = known.iter().filter(stayed).count();
        done.removed = gone.len() + known.len() - left;
        done.changed = changed.into_iter().filter(stayed).count();
        done.unchanged = left - done.changed;
        done.added = self.entries.len() - left;
        done
    }

    /// Has one path watched as is said now; `true` if that is a change.
    fn adapt(&mut self, name: &Path, named: bool) -> bool {
        let said = self.configuration.group_of(name).map(str::to_owned);
        let Some(entry) = self.entries.get_mut(name) else {
            return false;
        };
        // What a command added may have its group from there.
        let keeps_group = entry.origin == Origin::Told && !named;
        if named {
            entry.origin = Origin::Named;
            // It is waited for without any limit then.
            entry.lost = None;
        }
        if said == entry.spec.group || (keeps_group && said.is_none()) {
            return self.suit(name);
        }
        // To the engine a path of another group is another path.
        match &mut entry.stage {
            Stage::Watched(_) => {
                let origin = entry.origin.clone();
                self.leave(name, "reload");
                self.enter(&[name.to_owned()], &origin, None);
            }
            Stage::Waiting(waiting) => {
                entry.spec = self.configuration.spec(name);
                if waiting.forgo(Instant::now()) {
                    let ticket = mem::take(&mut entry.ticket);
                    self.strays.insert((name.to_owned(), ticket), "reload");
                }
            }
        }
        true
    }
}

fn answer(askers: Vec<Asker>, reloaded: &Reloaded) {
    for asker in askers.into_iter().flatten() {
        let _ = asker.send(reloaded.clone());
    }
}
