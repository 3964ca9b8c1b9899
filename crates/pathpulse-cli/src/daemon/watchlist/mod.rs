//! What is to be watched, and what became of it: the only place where paths enter and leave the engine.
//!
//! One thread, the keeper, has the list. It is told by commands, by the configuration and by the kernel;
//! it opens nothing itself and waits for no device. A path that does not open is kept waiting, with the
//! reason, and is tried again: when the kernel says that something came, and at a pace besides.
//!
//! | a path comes from | stays until |
//! |---|---|
//! | the command line or the file | a reload with a file that does not name it, or `remove` |
//! | `add` | `remove` |
//! | discovery | its disk is gone and nothing uses it, or a reload with other rules, or `remove` until its disk comes anew |

mod commands;
mod discovered;
mod missing;
mod open_retry;
mod other_names;
mod refused;
mod reload;
mod removal;
mod task;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use pathpulse::{OpenError, PathId};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::api::name::Name;
use crate::daemon::config::{ConfigError, Configuration};
use crate::daemon::discovery::uevent::Changes;
pub(crate) use task::Keeper;

/// What is to be done to paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Add,
    Remove,
    Pause,
    Resume,
    CheckNow,
}

/// Paths to do something to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathsDocument {
    pub(crate) paths: Vec<Name>,
    /// Only for `add`: the group they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// What became of a command, path by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerDocument {
    pub(crate) path: Name,
    /// It is as was asked.
    pub(crate) done: bool,
    /// Why not, or what else there is to say.
    pub(crate) message: Option<String>,
}

impl AnswerDocument {
    fn new(path: PathBuf, refused: Result<(), String>) -> AnswerDocument {
        AnswerDocument {
            path: Name(path),
            done: refused.is_ok(),
            message: refused.err(),
        }
    }

    /// Says so if the device is one of those that are not free, though the path has let go of it.
    fn note_held(&mut self, held: &HashSet<PathBuf>) {
        if held.contains(&self.path.0) {
            let said = "the kernel still holds its device: a read of it is not answered";
            self.message = Some(match self.message.take() {
                Some(message) => format!("{message}; {said}"),
                None => said.to_owned(),
            });
        }
    }
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadDocument {
    /// Paths that are watched from now on, or waited for.
    pub(crate) added: usize,
    /// Paths that are watched no longer.
    pub(crate) removed: usize,
    /// Paths that are watched in another way.
    pub(crate) changed: usize,
    /// Paths that nothing was done to.
    pub(crate) unchanged: usize,
    /// What will be so at the next start only.
    pub(crate) remarks: Vec<String>,
}

/// The answer to a reload: what it changed, or what is wrong with the file.
pub(crate) type Reloaded = Result<ReloadDocument, Vec<String>>;

/// What the keeper is told.
pub(crate) enum Order {
    /// Do this to these.
    Do(Action, PathsDocument, oneshot::Sender<Vec<AnswerDocument>>),
    /// Read the configuration again.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// It was read: there is another one, or it has not changed.
    Loaded(Box<Result<Option<Configuration>, ConfigError>>),
    /// Block devices came, went or changed.
    Changed(Changes),
    /// A path was opened, or could not be.
    Opened {
        name: PathBuf,
        ticket: u64,
        answer: Result<PathId, OpenError>,
    },
}

/// A path that is not watched yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingPath {
    pub(crate) name: PathBuf,
    pub(crate) group: Option<String>,
    pub(crate) since: SystemTime,
    /// The same time, by a clock that nobody sets.
    pub(crate) begun: Instant,
    /// Why, in a word: `not_open`, or `device_gone` if it was watched before.
    pub(crate) cause: &'static str,
    /// Why, in words.
    pub(crate) message: String,
    /// The path that leads to the same device, and is watched.
    pub(crate) same_as: Option<PathBuf>,
}

/// The way to the keeper. Clones are the same.
#[derive(Clone)]
pub(crate) struct Roster {
    orders: Sender<Order>,
    waiting: Arc<RwLock<Arc<[WaitingPath]>>>,
}

impl Roster {
    /// A way to a keeper, and its other end.
    pub(crate) fn new() -> (Roster, Receiver<Order>) {
        let (orders, inbox) = channel();
        let waiting = Arc::new(RwLock::new(Arc::from([])));
        (Roster { orders, waiting }, inbox)
    }

    /// Tells the keeper something, without waiting.
    pub(crate) fn tell(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// The paths that are not watched yet, in the order of their names.
    pub(crate) fn waiting(&self) -> Arc<[WaitingPath]> {
        let waiting = self.waiting.read();
        Arc::clone(&waiting.unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, waiting: Vec<WaitingPath>) {
        let mut shown = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        *shown = waiting.into();
    }
}
