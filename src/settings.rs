//! How a path is watched: [`Settings`]; what of it is read: [`Region`]; and what to watch: [`PathSpec`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::health::Rules;

/// The shortest interval and timeout.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// How a path is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From check to check; 1 ms and more.
    pub interval: Duration,
    /// How long a check may take; 1 ms and more.
    pub timeout: Duration,
    /// A path that is down for long is checked less often: a 32nd of the time that it has been down
    /// passes between its checks, but never more than this. What is not above the interval switches
    /// that off.
    pub backoff_max: Duration,
    /// How verdicts become states.
    pub rules: Rules,
    /// What is read.
    pub region: Region,
    /// What checks do to a disk that sleeps.
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
    /// The same, with what is below its limit raised to it.
    pub(crate) fn within_limits(self) -> Settings {
        Settings {
            interval: self.interval.max(SPAN_MIN),
            timeout: self.timeout.max(SPAN_MIN),
            rules: Rules {
                fall: self.rules.fall.max(1),
                rise: self.rules.rise.max(1),
                ..self.rules
            },
            ..self
        }
    }
}

/// What of a device a check reads. A device may answer for a block that it has cached while the
/// medium behind is dead: reading elsewhere each time finds that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Where.
    pub place: Place,
    /// How many bytes, up to 128 KiB; whole blocks are read, one at least, and no more than the device
    /// has. 0 is one logical block.
    pub len_bytes: u32,
}

/// Where a check reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// At the beginning of the device.
    #[default]
    First,
    /// At its end.
    Last,
    /// Each time somewhere else, spread evenly over the device.
    Rotating,
}

/// What checks do to a disk that sleeps: one that the kernel has suspended (`power/runtime_status` in sysfs).
/// Of one that spins down by a timer of its own the kernel knows nothing: checks wake it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sleeping {
    /// They read it, which wakes it.
    #[default]
    Read,
    /// They leave it alone. The path keeps its state, which grows old, until somebody else wakes the disk.
    Leave,
}

/// A path to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSpec {
    /// Its name.
    pub path: PathBuf,
    /// The group it belongs to. `None` is what the kernel says: the dm-multipath map above it, else
    /// its world wide name; and none, where the kernel knows neither.
    pub group: Option<String>,
    /// How to watch it; `None` is as the monitor's [`Config`](crate::Config) says.
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
