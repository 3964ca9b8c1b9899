//! Notes about failed paths in the state file.
//!
//! Another process owns the file and may wait for a silent disk. So only the thread that acts on
//! maps waits for its answer, at most [`LIMIT`]; the next try finds an answer that comes later.
//! Without a file there are no notes and no waiting.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::failed_path_log::FailedPathNotes;
use crate::daemon::events::{EventStore, FailedPaths};

/// How long a note may take to reach the disk.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// Notes in the state file.
pub(super) struct StoreNotes {
    store: EventStore,
    /// New notes are refused.
    held: bool,
    /// A note was written since the last successful sync.
    changed: bool,
    /// Receives whether all notes are on the disk.
    answer: Option<Receiver<bool>>,
}

impl StoreNotes {
    pub(super) fn new(store: EventStore) -> StoreNotes {
        StoreNotes {
            store,
            held: false,
            changed: false,
            answer: None,
        }
    }

    /// Refuses notes from now on, or accepts them again.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }
}

impl FailedPathNotes for StoreNotes {
    fn keep(&mut self, failed: &FailedPaths) -> bool {
        if self.held || !self.store.keep_failed_paths(failed) {
            return false;
        }
        // An answer that is under way does not cover this note.
        self.answer = None;
        self.changed = true;
        true
    }

    fn are_on_disk(&mut self) -> bool {
        if !self.store.has_file() || !self.changed {
            return true;
        }
        if self.answer.is_none() {
            self.answer = self.store.sync();
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
