//! Groups of paths that lead to the same storage.

use crate::status::{Histogram, LatencyHistogram};

/// Status of a group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The name; `None` for the set of all paths without a group.
    pub name: Option<String>,
    /// Number of paths in the group.
    pub paths: usize,
    /// Latencies of all good checks of its paths since the group was created.
    pub latencies: LatencyHistogram,
}

/// What a worker counts for all paths of a group together. Each worker has one more cell, for its
/// paths without a group.
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

    /// A group whose latencies are counted in this histogram.
    pub(crate) fn over(name: Option<&str>, latencies: Histogram) -> GroupCell {
        let name = name.map(Box::from);
        GroupCell { name, latencies }
    }

    /// The name; `None` in the cell for paths without a group.
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
