//! What a worker has others do for it: looking names up again and opening files, which may take as long as
//! a device likes.
//!
//! | whose name | when |
//! |---|---|
//! | of all paths | the backend broke that had their files: they are opened in any case |
//! | of a path that is down | at each check that finds it so, at its timing |
//! | of a path whose device says that it is gone | the same, and it is opened in any case |
//! | of a path that was paused | when it is resumed, and at each check until it opens |
//! | of any path | once a minute (`worker/names.rs`) |
//!
//! What a name leads to is taken if it is another object than the one that is read; unless it is other
//! storage, or watched by another path: that is said instead. All is done on threads that nobody waits for,
//! one at a time for each name, and comes back as a command.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{PoisonError, RwLock};

use pathpulse_kernel_compat::{Choice, Waker};

use super::*;
use crate::config::BackendInfo;
use crate::device::{Comparison, Device, DeviceId, Identity, Opens, Sysfs, open_all};
use crate::status::{Leads, Registry, StatusCell};
use crate::worker::message::Reopened;

/// The backend of a worker as others see it: what it is, and how to wake who waits in it.
pub(crate) struct BackendHandle {
    pub(crate) info: BackendInfo,
    pub(crate) waker: Waker,
}

/// What a worker knows of the world outside.
#[derive(Clone)]
pub(crate) struct WorkerEnv {
    pub(crate) choice: Choice,
    pub(crate) handle: Arc<RwLock<BackendHandle>>,
    /// The worker's own queue.
    pub(crate) commands: SyncSender<Command>,
    /// Only for the threads that open: the worker waits for no lock.
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) opens: Arc<Opens>,
}

impl WorkerEnv {
    /// Looks where a name leads, and opens that if it is not what is read already. On threads that
    /// nobody waits for.
    pub(crate) fn look_up(&self, lookup: &Lookup, name: &Path) -> Reopened {
        let registry = || self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let known = registry().identity(lookup.id);
        if let (false, Some(known), Ok(now)) = (lookup.anyway, known, Identity::of_name(name)) {
            match now.compare(&known) {
                // A read that is stuck would only be joined by another one there.
                Comparison::Alike if lookup.keeps => return Reopened::Same,
                Comparison::Same => return Reopened::Same,
                Comparison::Alike | Comparison::Other => {}
            }
        }
        match Device::open(name) {
            Ok(device) => Reopened::Device(Box::new(device)),
            Err(_) => Reopened::Nothing,
        }
    }

    /// A name leads to what is read. That is nothing to write down, as a rule.
    pub(super) fn leads_home(&self, id: PathId) {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let is_astray = registry.is_astray(id);
        drop(registry);
        if is_astray {
            let mut registry = self
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            registry.leads_home(id);
        }
    }

    /// Reads again what may have changed of a block device: its map, its size, its links.
    pub(super) fn refresh_details(&self, id: PathId) {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let info = registry.cell(id).map(StatusCell::info);
        drop(registry);
        let Some(info) = info else {
            return;
        };
        let DeviceId::Block { major, minor } = info.device() else {
            return;
        };
        let details = Sysfs::of(major, minor).map(|sysfs| info.details().refreshed(&sysfs));
        if let Some(details) = details.filter(|details| details != info.details()) {
            let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
            registry.set_details(id, details);
        }
    }

    /// Takes note of what was found, and tells the worker.
    pub(crate) fn hand_over(&self, id: PathId, found: Reopened) {
        let registry = || {
            self.registry
                .write()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let found = match found {
            Reopened::Device(device) => match registry().now_leads_to(id, &device) {
                Leads::Here => Reopened::Device(device),
                Leads::Elsewhere(news) => Reopened::Elsewhere(news),
                Leads::Nowhere => return,
            },
            Reopened::Same => {
                self.leads_home(id);
                Reopened::Same
            }
            other => other,
        };
        let _ = self.commands.send(Command::Reopened(id, found));
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        handle.waker.wake();
    }
}

/// How a name is looked up again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) id: PathId,
    /// It is opened in any case: its device says that it is gone, or there is no file of it any more.
    pub(crate) anyway: bool,
    /// What may be the same object is: a read of it is stuck, or it works.
    pub(crate) keeps: bool,
}

impl Worker {
    /// Has those names looked up again whose paths do not work.
    pub(super) fn reopen_gone(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let gone = std::mem::take(&mut self.gone);
        self.open_anew(&gone);
    }

    /// Has names looked up by threads, which send here what they lead to. Each at most once at a time, however
    /// long that takes.
    pub(super) fn open_anew(&mut self, keys: &[Key]) {
        let Some(env) = self.env.clone() else {
            return;
        };
        let (mut lookups, mut names): (Vec<Lookup>, Vec<PathBuf>) = Default::default();
        for key in keys {
            if let Some(path) = self.paths.get_mut(*key)
                && !std::mem::replace(&mut path.reopening, true)
            {
                lookups.push(Lookup {
                    id: path.id,
                    anyway: path.is_gone || (path.target.is_none() && path.stuck.is_none()),
                    keeps: path.stuck.is_some(),
                });
                names.push(path.cell.info().name().to_owned());
            }
        }
        let tried = lookups.clone();
        let work = move || {
            let (theirs, ours) = (env.clone(), lookups.clone());
            let look_up = move |place: usize, name: &Path| theirs.look_up(&ours[place], name);
            open_all(names, None, &env.opens, look_up, |place, found| {
                env.hand_over(lookups[place].id, found.unwrap_or(Reopened::Nothing));
            });
        };
        let thread = std::thread::Builder::new().name("pathpulse-reopen".to_owned());
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "no thread to look names up again");
            for lookup in tried {
                self.reopened(lookup.id, Reopened::Nothing);
            }
        }
    }

    /// Reads a path through this file from now on, if there is another one.
    pub(super) fn reopened(&mut self, id: PathId, found: Reopened) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        path.reopening = false;
        if path.health.state() == State::Paused {
            return self.turn_away(found);
        }
        let device = match found {
            Reopened::Device(device) => device,
            Reopened::Elsewhere(Some(news)) => {
                let state = path.shown;
                return self.tell(key, (state, state), Cause::LeadsElsewhere, news);
            }
            // It had a file when it was looked up, and has none by now.
            Reopened::Same if path.target.is_none() && path.stuck.is_none() => {
                return self.gone.push(key);
            }
            Reopened::Nothing if path.target.is_none() => {
                // Each check that finds it so has it tried again; it is told once.
                if path.cell.snapshot().unknown != Some(UnknownReason::NotOpen) {
                    let info = path.cell.info();
                    tracing::error!(device = %info.device(), "could not be opened anew; it keeps its state");
                }
                return;
            }
            Reopened::Same | Reopened::Nothing | Reopened::Elsewhere(None) => return,
        };
        path.is_gone = false;
        // A read that is stuck belongs to the old file; nobody waits for it any more.
        path.stuck = None;
        path.cell.set_stuck(None);
        let (old, read) = (path.target.take(), path.read.take());
        if let Some(read) = read {
            self.backend.cancel(read);
        }
        if let Some(old) = old {
            self.backend.detach(old);
        }
        let submission = device.submission;
        let file = path.take_device(*device);
        path.target = Some(self.backend.attach(file, submission));
        self.learn_nowait(key, Nowait::Untried);
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        let now = self.backend.now();
        if path.check.is_some() {
            let why = UnknownReason::Cancelled;
            self.conclude(key, Verdict::Unknown { why }, now);
        }
        if let Some(path) = self.paths.get_mut(key) {
            path.history = None;
            path.reopened = true;
        }
        self.begin(key, now);
    }
}
