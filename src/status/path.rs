//! Identity of a path: its id, its name, its device and its group. Its state is in `cell.rs`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::device::{DeviceId, DeviceInfo};

/// Identifies a path of one monitor. An id is never used again, neither after the path was removed
/// nor by another monitor of this process: other monitors do not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u64);

impl PathId {
    pub(crate) fn from_number(number: u64) -> PathId {
        PathId(number)
    }

    /// Allocates `count` consecutive ids that are unique in this process, and returns the first.
    pub(crate) fn allocate(count: u64) -> PathId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PathId(NEXT.fetch_add(count, Relaxed))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Identity of a path, without its state.
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

    /// Returns a copy with these details of the device.
    pub(crate) fn with_details(self, details: DeviceInfo) -> PathInfo {
        PathInfo { details, ..self }
    }

    /// Returns a copy with a new value of [`PathInfo::leads_elsewhere`].
    pub(crate) fn with_elsewhere(&self, elsewhere: Option<String>) -> PathInfo {
        PathInfo {
            elsewhere: elsewhere.map(Into::into),
            ..self.clone()
        }
    }

    /// Returns a copy with another name.
    pub(crate) fn with_name(&self, name: &Path) -> PathInfo {
        PathInfo {
            name: name.into(),
            ..self.clone()
        }
    }

    /// The name with which the path was added, or to which it was renamed.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The device that the path leads to.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Names of the device and where it is attached, as known when the path was opened. The map,
    /// the size and the links of a block device are refreshed at least once a minute.
    pub fn details(&self) -> &DeviceInfo {
        &self.details
    }

    /// A description of what the name leads to now, if that is not the watched device: other
    /// storage, or a device that another path watches. To watch it, remove the path and add it
    /// again.
    pub fn leads_elsewhere(&self) -> Option<&str> {
        self.elsewhere.as_deref()
    }

    /// The former name of [`PathInfo::leads_elsewhere`].
    #[doc(hidden)]
    pub fn elsewhere(&self) -> Option<&str> {
        self.leads_elsewhere()
    }

    /// The group: what this path and its peers, the other paths to the same storage, have in
    /// common.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}
