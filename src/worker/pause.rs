//! Paths that are not checked for a while: their files are given up, so that others can have the devices.

use super::*;
use crate::worker::message::Reopened;

impl Worker {
    /// Checks a path no longer, and gives its file up.
    pub(super) fn pause(&mut self, id: PathId, told: &Sender<Closing>) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        let now = self.backend.now();
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if path.health.pause(true, now).is_some() {
            path.cell.expect_verdict(now, path.settings.timeout);
            self.group_changed(key);
            self.show(key, String::new);
        }
        let _ = told.send(self.let_go(key));
    }

    /// Ends the check of a path, and gives its file up.
    fn let_go(&mut self, key: Key) -> Closing {
        let now = self.backend.now();
        let Some(path) = self.paths.get_mut(key) else {
            return Closing::nothing();
        };
        let (read, target) = (path.read, path.target.take());
        if let Some(read) = read {
            self.backend.cancel(read);
        }
        if path.check.is_some() {
            let why = UnknownReason::Cancelled;
            self.conclude(key, Verdict::Unknown { why }, now);
        }
        if let Some(path) = self.paths.get_mut(key) {
            // If it is not answered in time, it is stuck all the same.
            path.read = read;
        }
        match target {
            Some(target) => self.backend.detach(target),
            None => Closing::nothing(),
        }
    }

    /// Checks a path again, as soon as it is open.
    pub(super) fn resume(&mut self, id: PathId) {
        let Some(&key) = self.keys.get(&id) else {
            return;
        };
        let now = self.backend.now();
        let Some(path) = self.paths.get_mut(key) else {
            return;
        };
        if path.health.pause(false, now).is_some() {
            // It is not late for what it was not asked for while it was paused.
            path.cell
                .expect_verdict(path.due.max(now), path.settings.timeout);
            self.group_changed(key);
            self.show(key, String::new);
            self.open_anew(&[key]);
        }
    }

    /// A paused path was opened by who did not know that it is: others are to have the device.
    pub(super) fn turn_away(&mut self, found: Reopened) {
        if let Reopened::Device(device) = found {
            let target = self.backend.attach(device.file, device.submission);
            self.backend.detach(target);
        }
    }
}
