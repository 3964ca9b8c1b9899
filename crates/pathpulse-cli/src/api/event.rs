//! The documents of `GET /v1/events`.

use std::path::PathBuf;
use std::time::SystemTime;

use pathpulse::{Event, PathStatus, display_name, parse_name};
use serde::{Deserialize, Serialize};

use super::state::{ErrnoName, PathCause, PathState};
use super::time::timestamp;

/// One event of `GET /v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventDocument {
    pub(crate) time: String,
    pub(crate) path: String,
    pub(crate) device: String,
    pub(crate) from: PathState,
    pub(crate) to: PathState,
    pub(crate) cause: PathCause,
    pub(crate) errno: Option<ErrnoName>,
    pub(crate) detail: String,
}

/// How many events are missing at this place of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostDocument {
    pub(crate) lost: u64,
}

impl EventDocument {
    /// A state change that the engine reported.
    pub(crate) fn new(event: &Event) -> EventDocument {
        EventDocument {
            time: format!("{:.6}", timestamp(event.time)),
            path: display_name(event.path.name()).to_string(),
            device: event.path.device().to_string(),
            from: event.from.into(),
            to: event.to.into(),
            cause: event.cause.into(),
            errno: event.cause.errno().map(ErrnoName::from),
            detail: event.detail.clone(),
        }
    }

    /// The end of a path's monitoring.
    pub(crate) fn removed(last: &PathStatus, cause: PathCause, detail: &str) -> EventDocument {
        EventDocument {
            time: format!("{:.6}", timestamp(SystemTime::now())),
            path: display_name(last.path.name()).to_string(),
            device: last.path.device().to_string(),
            from: last.state.into(),
            to: PathState::Removed,
            cause,
            errno: None,
            detail: detail.to_owned(),
        }
    }

    /// The name of the path, byte for byte.
    pub(crate) fn name(&self) -> PathBuf {
        // An old file of events may contain a name that was not escaped.
        parse_name(&self.path).unwrap_or_else(|| PathBuf::from(&self.path))
    }
}
