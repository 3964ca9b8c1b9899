//! Notes about what is done to maps, in the state file.
//!
//! The file is another process's, which may wait for a disk that is silent. So an answer is waited for as
//! long as [`LIMIT`], by the thread that acts on maps and by no one else; one that comes later is found by
//! the next try. Without a file nothing can be noted, and nothing is waited for.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::failed_path_log::Notes;
use crate::daemon::events::store::Keeper;
use crate::daemon::events::store_file::Taken;

/// How long notes may take to be on the disk.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// The way to the state file.
pub(super) struct StateNotes {
    state: Keeper,
    /// None is kept now.
    held: bool,
    /// Some were kept since the disk had all.
    changed: bool,
    /// Will say whether all that was kept is on the disk.
    answer: Option<Receiver<bool>>,
}

impl StateNotes {
    pub(super) fn new(state: Keeper) -> StateNotes {
        StateNotes {
            state,
            held: false,
            changed: false,
            answer: None,
        }
    }

    /// Keeps no notes from now on, or does again.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }
}

impl Notes for StateNotes {
    fn keep(&mut self, taken: &Taken) -> bool {
        if self.held || !self.state.keep_taken(taken) {
            return false;
        }
        // An answer that is on its way says nothing of this one.
        self.answer = None;
        self.changed = true;
        true
    }

    fn are_on_disk(&mut self) -> bool {
        if !self.state.has_file() || !self.changed {
            return true;
        }
        if self.answer.is_none() {
            self.answer = self.state.sync();
        }
        let Some(answer) = &self.answer else {
            return false;
        };
        match answer.recv_timeout(LIMIT) {
            Err(RecvTimeoutError::Timeout) => return false,
            Ok(all) => self.changed = !all,
            Err(RecvTimeoutError::Disconnected) => {}
        }
        self.answer = None;
        !self.changed
    }
}

#[cfg(test)]
mod tests;
