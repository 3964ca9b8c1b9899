//! The lines between the daemon and the process with the state file, and in that file.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::daemon::process::boot_id;

/// Longer lines are not kept. Names of paths have at most 4 KiB.
pub(super) const LINE_MAX: usize = 16 * 1024;

/// Which paths of a multipath map we took out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedPaths {
    /// The boot in which that was.
    pub(crate) boot: String,
    /// The map's uuid.
    pub(crate) map: String,
    /// The numbers of their devices; empty if all were reinstated. The file has an older name.
    #[serde(rename = "legs")]
    pub(crate) paths: BTreeSet<(u32, u32)>,
}

impl FailedPaths {
    /// Whether the note is from this boot; otherwise the map was set up again since.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        !self.boot.is_empty() && self.boot == boot_id()
    }

    /// The line for the file, without its checksum; `None` if it is too long.
    pub(crate) fn line(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        Some(FAILED_PATHS_PREFIX.to_owned() + &text).filter(|line| line.len() <= LINE_MAX)
    }
}

/// How a line with failed paths begins; events are JSON.
pub(super) const FAILED_PATHS_PREFIX: &str = "taken ";
/// Asks the process to sync the file and to reply whether that succeeded.
pub(crate) const SYNC: &str = "sync";

/// What the process says, one line each.
#[derive(Debug, PartialEq)]
pub(crate) enum StoreReply<'a> {
    /// An event of the file.
    Past(&'a str),
    /// Failed paths of a map, from the file.
    FailedPaths(&'a str),
    /// The file has been read.
    Ready,
    /// All lines before an empty line are written.
    Written,
    /// All lines before [`SYNC`] are on the disk.
    Synced,
    /// Some of them are not.
    Unsynced,
    /// A problem with the file.
    Wrong(&'a str),
    /// The problem is over.
    Mended(&'a str),
}

impl<'a> StoreReply<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<StoreReply<'a>> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "past" => Some(StoreReply::Past(rest)),
            "taken" => Some(StoreReply::FailedPaths(rest)),
            "ready" => Some(StoreReply::Ready),
            "written" => Some(StoreReply::Written),
            "synced" => Some(StoreReply::Synced),
            "unsynced" => Some(StoreReply::Unsynced),
            "wrong" => Some(StoreReply::Wrong(rest)),
            "mended" => Some(StoreReply::Mended(rest)),
            _ => None,
        }
    }
}

impl fmt::Display for StoreReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreReply::Past(event) => write!(f, "past {event}"),
            StoreReply::FailedPaths(text) => write!(f, "taken {text}"),
            StoreReply::Ready => f.write_str("ready "),
            StoreReply::Written => f.write_str("written "),
            StoreReply::Synced => f.write_str("synced "),
            StoreReply::Unsynced => f.write_str("unsynced "),
            StoreReply::Wrong(what) => write!(f, "wrong {what}"),
            StoreReply::Mended(what) => write!(f, "mended {what}"),
        }
    }
}
