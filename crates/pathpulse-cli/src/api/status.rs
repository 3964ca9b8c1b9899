//! `GET /v1/status`: the daemon and all of its paths.

use std::collections::HashMap;

use pathpulse::{Monitor, PathStatus, display_name};
use serde::{Deserialize, Serialize};

use super::document::{PathDocument, UnopenedPath};

/// `GET /v1/status`: the daemon and all of its paths.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusDocument {
    pub(crate) version: String,
    pub(crate) backend: String,
    pub(crate) workers: usize,
    pub(crate) uptime_s: f64,
    pub(crate) clients: ClientsDocument,
    /// Dead daemons of this socket that the kernel still holds, because a read of theirs is
    /// unanswered.
    #[serde(default)]
    pub(crate) held_processes: Vec<HeldProcessDocument>,
    pub(crate) paths: Vec<PathDocument>,
}

/// `clients` in `GET /v1/status`: the HTTP clients of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientsDocument {
    /// Connected now.
    pub(crate) here: u64,
    /// Rejected because the limit was reached.
    pub(crate) turned_away: u64,
    /// Disconnected because they did not read their answer in time.
    pub(crate) too_slow: u64,
}

/// One of `held_processes` in `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldProcessDocument {
    pub(crate) pid: i32,
    /// RFC 3339.
    pub(crate) since: String,
    pub(crate) devices: Vec<String>,
}

impl StatusDocument {
    /// The status of now.
    pub(crate) fn new(monitor: &Monitor, unopened: &[UnopenedPath]) -> StatusDocument {
        let uptime_ms = monitor.uptime().as_millis();
        StatusDocument {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: monitor.backend().kind.to_string(),
            workers: monitor.config().workers,
            uptime_s: uptime_ms as f64 / 1e3,
            clients: ClientsDocument::default(),
            held_processes: Vec::new(),
            paths: path_documents(monitor, unopened),
        }
    }
}

/// All paths; those that are not open come last. A second name of an open device is listed in
/// `also` of the path that has the device open.
pub(crate) fn path_documents(monitor: &Monitor, unopened: &[UnopenedPath]) -> Vec<PathDocument> {
    let mut places = HashMap::new();
    let mut all: Vec<PathDocument> = Vec::new();
    for (place, (_, path)) in monitor.status().iter().enumerate() {
        places.insert(path.path.name().to_owned(), place);
        all.push(PathDocument::new(path));
    }
    for path in unopened {
        let first = path.same_as.as_ref().and_then(|first| places.get(first));
        match first {
            Some(first) => all[*first].also.push(display_name(&path.name).to_string()),
            None => all.push(PathDocument::unopened(path)),
        }
    }
    all
}

/// One open path.
pub(crate) fn path_document(path: &PathStatus, unopened: &[UnopenedPath]) -> PathDocument {
    let others = unopened
        .iter()
        .filter(|other| other.same_as.as_deref() == Some(path.path.name()));
    PathDocument {
        also: others
            .map(|other| display_name(&other.name).to_string())
            .collect(),
        ..PathDocument::new(path)
    }
}
