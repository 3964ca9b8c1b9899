//! What a path is, apart from how it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::device::{DeviceId, DeviceInfo};

/// Names a path of one monitor; never another one, even after it was removed, and none of another monitor
/// of this process: there it is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u64);

impl PathId {
    pub(crate) fn from_number(number: u64) -> PathId {
        PathId(number)
    }

    /// The first of `count` ids in a row that nobody in this process has, whatever monitor asks.
    pub(crate) fn first_of_new(count: u64) -> PathId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PathId(NEXT.fetch_add(count, Relaxed))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// What a path is, apart from how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    name: Box<Path>,
    device: DeviceId,
    group: Option<Box<str>>,
    elsewhere: Option<Box<str>>,
    details: DeviceInfo,
}

impl PathInfo {
    pub(crate) fn new(name: PathBuf, device: DeviceId, group: Option<&str>) -> PathInfo {
        PathInfo {
            name: name.into(),
            device,
            group: group.map(Box::from),
            elsewhere: None,
            details: DeviceInfo::default(),
        }
    }

    /// The same, with this known of its device.
    pub(crate) fn with_details(self, details: DeviceInfo) -> PathInfo {
        PathInfo { details, ..self }
    }

    /// The same, but that its name leads elsewhere by now, or no longer does.
    pub(crate) fn leading(&self, elsewhere: Option<String>) -> PathInfo {
        PathInfo {
            elsewhere: elsewhere.map(Into::into),
            ..self.clone()
        }
    }

    /// The same by another name.
    pub(crate) fn named(&self, name: &Path) -> PathInfo {
        PathInfo {
            name: name.into(),
            ..self.clone()
        }
    }

    /// As it was named when it was added, or later.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// What it leads to.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// What the device is called and where it is attached, as it was known when the path was opened; the
    /// map, the size and the links of a block device as they were known a minute ago or later.
    pub fn details(&self) -> &DeviceInfo {
        &self.details
    }

    /// Where its name leads by now, in words, if that is not what is watched: to other storage, or to a
    /// device that another path leads to. It is watched when the path was removed and added again.
    pub fn elsewhere(&self) -> Option<&str> {
        self.elsewhere.as_deref()
    }

    /// What it has in common with its peers: the paths to the same storage.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}
