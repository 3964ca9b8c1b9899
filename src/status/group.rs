//! Groups of paths that lead to the same storage.

use crate::status::{Histogram, LatencyHistogram};

/// How a group is, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Its name; `None` for all paths that are in no group.
    pub name: Option<String>,
    /// Paths in it.
    pub paths: usize,
    /// Latencies of all good checks of its paths, since the group exists.
    pub latencies: LatencyHistogram,
}

/// What a worker counts for all paths of a group together. One for each worker counts for the
/// paths that are in no group, too.
#[derive(Default)]
pub(crate) struct GroupCell {
    name: Option<Box<str>>,
    pub(crate) latencies: Histogram,
}

impl GroupCell {
    pub(crate) fn new(name: &str) -> GroupCell {
        GroupCell {
            name: Some(name.into()),
            latencies: Histogram::default(),
        }
    }

    /// Its name, if it is a group.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn snapshot(&self, paths: usize) -> GroupStatus {
        GroupStatus {
            name: self.name().map(str::to_owned),
            paths,
            latencies: self.latencies.snapshot(),
        }
    }
}
