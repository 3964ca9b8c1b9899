//! Parameters of a path: what to watch ([`PathSpec`]), how ([`Settings`]), and what to read
//! ([`Region`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::health::Rules;

/// Minimum of interval and timeout.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// How a path is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time from check to check; at least 1 ms.
    pub interval: Duration,
    /// Time limit of a check; at least 1 ms.
    pub timeout: Duration,
    /// Upper limit of the extra interval of a path that has been down for long. The time between
    /// its checks grows to 1/32 of its time down, up to this limit. A limit up to the interval
    /// disables this.
    pub backoff_max: Duration,
    /// How verdicts become states.
    pub rules: Rules,
    /// What a check reads.
    pub region: Region,
    /// What checks do with a suspended disk.
    pub sleeping: Sleeping,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            backoff_max: Duration::from_secs(30),
            rules: Rules::default(),
            region: Region::default(),
            sleeping: Sleeping::default(),
        }
    }
}

impl Settings {
    /// Returns the settings with too small values raised to their minimum.
    pub(crate) fn within_limits(self) -> Settings {
        Settings {
            interval: self.interval.max(PERIOD_MIN),
            timeout: self.timeout.max(PERIOD_MIN),
            rules: Rules {
                fall: self.rules.fall.max(1),
                rise: self.rules.rise.max(1),
                ..self.rules
            },
            ..self
        }
    }
}

/// What a check reads of a device. A device may answer for a cached block although the medium is
/// dead; reading another place each time detects that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// The place on the device.
    pub place: Place,
    /// Number of bytes, up to 128 KiB. It is rounded up to whole blocks, and limited by the size of
    /// the device. 0 means one logical block.
    pub len_bytes: u32,
}

/// The place on the device that a check reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The beginning.
    #[default]
    First,
    /// The end.
    Last,
    /// Another place each time, spread evenly over the device.
    Rotating,
}

/// What checks do with a disk that the kernel has suspended (`power/runtime_status` in sysfs). The
/// kernel does not know about a disk that spins down by its own timer: checks wake such a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sleeping {
    /// Read it, which wakes it.
    #[default]
    Read,
    /// Do not read it. The path keeps its state, which ages, until other I/O wakes the disk.
    Leave,
}

/// A path to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSpec {
    /// The name.
    pub path: PathBuf,
    /// The group. `None` takes the group from the kernel: the dm-multipath map above the device,
    /// otherwise its world wide name, otherwise no group.
    pub group: Option<String>,
    /// How to watch it; `None` takes the settings of the monitor's [`Config`](crate::Config).
    pub settings: Option<Settings>,
}

impl<T: AsRef<Path>> From<T> for PathSpec {
    fn from(path: T) -> PathSpec {
        PathSpec {
            path: path.as_ref().to_owned(),
            group: None,
            settings: None,
        }
    }
}
