//! What a path is, apart from how it is.

use std::path::{Path, PathBuf};

use crate::device::DeviceId;

/// Names a path of one monitor; never another one, even after it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u64);

impl PathId {
    pub(crate) fn from_number(number: u64) -> PathId {
        PathId(number)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// What a path is, apart from how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    name: PathBuf,
    device: DeviceId,
}

impl PathInfo {
    pub(crate) fn new(name: PathBuf, device: DeviceId) -> PathInfo {
        PathInfo { name, device }
    }

    /// As it was named when it was added.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// What it leads to.
    pub fn device(&self) -> DeviceId {
        self.device
    }
}
