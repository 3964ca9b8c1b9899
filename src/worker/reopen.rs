//! Looking names up again and opening files, done by threads for the worker, since it may take as
//! long as a device takes.
//!
//! | the name of | is looked up |
//! |---|---|
//! | all paths | when the backend broke that had their files; they are opened in any case |
//! | a path that is down | at each check that finds it down |
//! | a path whose device reports that it is gone | the same, and it is opened in any case |
//! | a path that was paused | when it is resumed, and at each check until it opens |
//! | any path | once a minute (`worker/names.rs`) |
//!
//! The device that a name leads to replaces the one that is read if it is another object, unless it
//! is other storage or watched by another path already: then an event says so. No thread is waited
//! for; there is one at a time for each name, and its result comes back as a message.

use std::path::{Path, PathBuf};

use pathpulse_kernel_compat::Key;

use super::Worker;
use super::checks::CheckedPath;
use super::env::Lookup;
use super::message::Reopened;
use crate::device::{Device, open_all};
use crate::health::{Cause, Nowait, State, UnknownReason, Verdict};
use crate::status::PathId;

impl Worker {
    /// Looks up the names that were collected during this tick.
    pub(super) fn reopen_collected(&mut self) {
        if !self.checker.to_reopen.is_empty() {
            let keys = std::mem::take(&mut self.checker.to_reopen);
            self.reopen(&keys);
        }
    }

    /// Starts a thread that looks these names up and sends the results here. A name that is being
    /// looked up already is left out, however long that takes.
    pub(super) fn reopen(&mut self, keys: &[Key]) {
        let Some(env) = self.env.clone() else {
            return;
        };
        let (mut lookups, mut names): (Vec<Lookup>, Vec<PathBuf>) = Default::default();
        for key in keys {
            if let Some(path) = self.paths.get_mut(*key)
                && !std::mem::replace(&mut path.reopening, true)
            {
                let is_closed = path.target.is_none() && path.stuck.is_none();
                lookups.push(Lookup {
                    id: path.id,
                    always_opens: path.is_gone || is_closed,
                    keeps_if_alike: path.stuck.is_some(),
                });
                names.push(path.cell.info().name().to_owned());
            }
        }
        let failed = lookups.clone();
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
            for lookup in failed {
                self.reopened(lookup.id, Reopened::Nothing);
            }
        }
    }

    /// A name was looked up: reads the path through the new file from now on, if there is one.
    pub(super) fn reopened(&mut self, id: PathId, found: Reopened) {
        let Some(mut path) = self.find(id) else {
            return;
        };
        path.path.reopening = false;
        if path.path.health.state() == State::Paused {
            return self.close_unused(found);
        }
        let is_closed = path.path.target.is_none();
        match found {
            Reopened::Device(device) => path.replace_device(*device),
            Reopened::Elsewhere(Some(news)) => path.emit_remark(Cause::LeadsElsewhere, news),
            // It had a file when it was looked up, and has none by now.
            Reopened::Same if is_closed && path.path.stuck.is_none() => {
                path.checker.to_reopen.push(path.key);
            }
            Reopened::Nothing if is_closed => path.log_not_open(),
            Reopened::Same | Reopened::Nothing | Reopened::Elsewhere(None) => {}
        }
    }
}

impl CheckedPath<'_> {
    /// Logs once that the path could not be opened; each check that finds it closed tries again.
    fn log_not_open(&self) {
        if self.path.cell.snapshot().unknown != Some(UnknownReason::NotOpen) {
            let info = self.path.cell.info();
            tracing::error!(device = %info.device(), "could not be opened anew; it keeps its state");
        }
    }

    /// Reads the path through this device from now on, and checks it.
    fn replace_device(&mut self, device: Device) {
        let path = &mut *self.path;
        path.is_gone = false;
        // A stuck read belongs to the old file, and its end no longer matters.
        path.stuck = None;
        path.cell.set_stuck(None);
        let (target, read) = (path.target.take(), path.read.take());
        if let Some(read) = read {
            self.checker.backend.cancel(read);
        }
        if let Some(target) = target {
            self.checker.backend.detach(target);
        }
        let submission = device.submission;
        let file = path.take_device(device);
        path.target = Some(self.checker.backend.attach(file, submission));
        self.learn_nowait(Nowait::Untried);
        let now = self.checker.backend.now();
        if self.path.check.is_some() {
            let why = UnknownReason::Cancelled;
            self.conclude(Verdict::Unknown { why }, now);
        }
        self.path.history = None;
        self.path.reopened = true;
        self.begin(now);
    }
}
