//! The watchlist: which paths are to be watched, and the only place where paths enter and leave
//! the engine.
//!
//! One thread ([`WatchlistTask`]) owns the list. Commands, the configuration and the kernel's
//! uevents come in as messages ([`WatchlistMsg`]); paths go to the engine, and the end of a path's
//! monitoring goes to the event log. The thread opens nothing itself and waits for no device:
//! threads of its own do. A path that does not open stays on the list with the reason and is tried
//! again, when the kernel reports a change and at growing intervals.
//!
//! Not here: checking (the engine), finding disks (`daemon::discovery`), reading the configuration.
//!
//! | a path comes from | and stays until |
//! |---|---|
//! | the command line or the file | a reload with a file that does not name it, or `remove` |
//! | `add` | `remove` |
//! | discovery | its disk is gone and nothing uses it, or a reload with other rules, or `remove`, which holds until the disk comes back |

mod commands;
mod discovered;
mod entry;
mod find;
mod missing;
mod open_errors;
mod open_retry;
mod opening;
mod other_names;
mod reload;
mod removal;
mod task;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};

use pathpulse::{OpenError, PathId};
use tokio::sync::oneshot;

use crate::api::{AnswerDocument, PathAction, PathsDocument, ReloadDocument, UnopenedPath};
use crate::daemon::config::{ConfigError, Configuration};
use crate::daemon::discovery::uevent::DeviceChanges;
pub(crate) use find::{ListedPath, find};
pub(crate) use task::WatchlistTask;

/// The answer to a reload: what it changed, or what is wrong with the file.
pub(crate) type ReloadResult = Result<ReloadDocument, Vec<String>>;

/// Messages to the watchlist's thread.
pub(crate) enum WatchlistMsg {
    /// Do this to these paths.
    Apply(
        PathAction,
        PathsDocument,
        oneshot::Sender<Vec<AnswerDocument>>,
    ),
    /// Read the configuration again.
    Reload(Option<oneshot::Sender<ReloadResult>>),
    /// The configuration was read; `None` if it has not changed.
    Loaded(Box<Result<Option<Configuration>, ConfigError>>),
    /// Block devices appeared, disappeared or changed.
    DevicesChanged(DeviceChanges),
    /// A path was opened, or could not be.
    Opened {
        name: PathBuf,
        /// The generation of the open; the entry may have a later one by now.
        open_generation: u64,
        answer: Result<PathId, OpenError>,
    },
}

/// A handle of the watchlist. Clones are handles of the same list.
#[derive(Clone)]
pub(crate) struct Watchlist {
    messages: Sender<WatchlistMsg>,
    unopened: Arc<RwLock<Arc<[UnopenedPath]>>>,
}

impl Watchlist {
    /// A handle, and the receiver for [`WatchlistTask::run`].
    pub(crate) fn new() -> (Watchlist, Receiver<WatchlistMsg>) {
        let (messages, inbox) = channel();
        let unopened = Arc::new(RwLock::new(Arc::from([])));
        (Watchlist { messages, unopened }, inbox)
    }

    /// Sends a message to the thread, without waiting.
    pub(crate) fn send(&self, message: WatchlistMsg) {
        let _ = self.messages.send(message);
    }

    /// The paths that are not open, sorted by name.
    pub(crate) fn unopened(&self) -> Arc<[UnopenedPath]> {
        let unopened = self.unopened.read();
        Arc::clone(&unopened.unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, unopened: Vec<UnopenedPath>) {
        let mut published = self
            .unopened
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *published = unopened.into();
    }
}
