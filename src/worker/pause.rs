//! Paused paths: their files are closed, so that others can use the devices.

use std::sync::mpsc::Sender;

use pathpulse_kernel_compat::{Closing, Key};

use super::checks::CheckedPath;
use super::message::Reopened;
use super::{PathId, Worker};
use crate::health::{UnknownReason, Verdict};

impl Worker {
    /// Stops checking a path and closes its file; `closing` learns when it is closed.
    pub(super) fn pause(&mut self, id: PathId, closing: &Sender<Closing>) {
        if let Some(mut path) = self.find(id) {
            path.pause();
            let _ = closing.send(path.close());
        }
    }

    /// Opens a paused path again, and then checks it.
    pub(super) fn resume(&mut self, id: PathId) {
        let reopens: Option<Key> = self
            .find(id)
            .and_then(|mut path| path.resume().then_some(path.key));
        if let Some(key) = reopens {
            self.reopen(&[key]);
        }
    }

    /// Closes the device of a path that was paused while it was being opened.
    pub(super) fn close_unused(&mut self, found: Reopened) {
        if let Reopened::Device(device) = found {
            let backend = &mut self.checker.backend;
            let target = backend.attach(device.file, device.submission);
            backend.detach(target);
        }
    }
}

impl CheckedPath<'_> {
    fn pause(&mut self) {
        let now = self.checker.backend.now();
        if self.path.health.pause(true, now).is_some() {
            let timeout = self.path.settings.timeout;
            self.path.cell.expect_verdict(now, timeout);
            self.checker.groups.state_changed(self.path.group);
            self.publish(String::new);
        }
    }

    /// Returns whether the path was paused.
    fn resume(&mut self) -> bool {
        let now = self.checker.backend.now();
        let was_paused = self.path.health.pause(false, now).is_some();
        if was_paused {
            // A verdict was not expected during the pause, so none is overdue now.
            let expected = self.path.due.max(now);
            let timeout = self.path.settings.timeout;
            self.path.cell.expect_verdict(expected, timeout);
            self.checker.groups.state_changed(self.path.group);
            self.publish(String::new);
        }
        was_paused
    }

    /// Ends the check in progress, and closes the file.
    fn close(&mut self) -> Closing {
        let now = self.checker.backend.now();
        let (read, target) = (self.path.read, self.path.target.take());
        if let Some(read) = read {
            self.checker.backend.cancel(read);
        }
        if self.path.check.is_some() {
            let why = UnknownReason::Cancelled;
            self.conclude(Verdict::Unknown { why }, now);
        }
        // A read that can't be cancelled becomes a stuck read at its deadline.
        self.path.read = read;
        match target {
            Some(target) => self.checker.backend.detach(target),
            None => Closing::nothing(),
        }
    }
}
