//! The documents of commands: what a client asks for and what the daemon answers.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::name::Name;

/// What a command does to paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathAction {
    Add,
    Remove,
    Pause,
    Resume,
    CheckNow,
}

/// The body of a command: the paths that it is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathsDocument {
    pub(crate) paths: Vec<Name>,
    /// The group that the paths belong to. Only for `add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// The result of a command for one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerDocument {
    pub(crate) path: Name,
    /// The command succeeded.
    pub(crate) done: bool,
    /// Why it failed, or a remark.
    pub(crate) message: Option<String>,
}

/// The result of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadDocument {
    /// Paths that are new on the watchlist.
    pub(crate) added: usize,
    /// Paths that left the watchlist.
    pub(crate) removed: usize,
    /// Paths with other settings.
    pub(crate) changed: usize,
    /// Paths without a change.
    pub(crate) unchanged: usize,
    /// Changes that take effect at the next start only.
    pub(crate) remarks: Vec<String>,
}

/// Why a command was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefusalDocument {
    /// One line or more: what, where, what to do.
    pub(crate) errors: Vec<String>,
}

/// The answer to `POST /v1/stop`.
#[derive(Debug, Serialize)]
pub(crate) struct StopDocument {
    pub(crate) stopping: bool,
    pub(crate) pid: u32,
}

impl AnswerDocument {
    pub(crate) fn new(path: PathBuf, result: Result<(), String>) -> AnswerDocument {
        AnswerDocument {
            path: Name(path),
            done: result.is_ok(),
            message: result.err(),
        }
    }

    /// Adds a remark if the kernel still holds the device, although the path is released.
    pub(crate) fn note_held(&mut self, held: &HashSet<PathBuf>) {
        if held.contains(&self.path.0) {
            let remark = "the kernel still holds its device: a read of it is not answered";
            self.message = Some(match self.message.take() {
                Some(message) => format!("{message}; {remark}"),
                None => remark.to_owned(),
            });
        }
    }
}
