//! The devices under test: temporary loop devices, or devices named by the user.

use std::path::{Path, PathBuf};

use pathpulse_faultdisk::PlainDisks;

use crate::files::open_direct;
use crate::plan::{BenchError, Plan};

/// The folder for files in memory.
const MEMORY: &str = "/dev/shm";
const SIZE_BYTES: u64 = 1 << 20;
/// The number of devices, unless more are needed to have enough tags for all paths.
const DEVICES: usize = 64;
/// A loop device has 128 tags. A read that finds no free tag does not measure the speed of checks.
const PATHS_PER_DEVICE: usize = 64;

/// The devices that the paths lead to.
pub(crate) enum TestDevices {
    Plain(PlainDisks),
    Named(Vec<PathBuf>),
}

impl TestDevices {
    pub(crate) fn new(plan: &Plan) -> Result<TestDevices, BenchError> {
        if plan.devices.is_empty() {
            return TestDevices::plain(plan.paths);
        }
        for device in &plan.devices {
            open_direct(device).map_err(|error| {
                BenchError(format!(
                    "{error}; specify block devices or files that support O_DIRECT"
                ))
            })?;
        }
        Ok(TestDevices::Named(plan.devices.clone()))
    }

    /// Creates enough loop devices over files in memory for this many paths.
    pub(crate) fn plain(paths: usize) -> Result<TestDevices, BenchError> {
        let count = paths.min(DEVICES).max(paths.div_ceil(PATHS_PER_DEVICE));
        TestDevices::of(count)
    }

    /// Creates this many loop devices.
    pub(crate) fn of(count: usize) -> Result<TestDevices, BenchError> {
        PlainDisks::new(count, SIZE_BYTES, Path::new(MEMORY))
            .map(TestDevices::Plain)
            .map_err(|error| {
                BenchError(format!(
                    "cannot create loop devices: {error}; run it as root, or specify devices"
                ))
            })
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            TestDevices::Plain(disks) => disks.paths(),
            TestDevices::Named(devices) => devices,
        }
    }

    /// Whether they are temporary, so that hanging devices of the same kind can be added.
    pub(crate) fn are_temporary(&self) -> bool {
        matches!(self, TestDevices::Plain(_))
    }

    /// A description.
    pub(crate) fn name(&self) -> String {
        match self {
            TestDevices::Plain(disks) => {
                format!("{} loop devices over memory", disks.paths().len())
            }
            TestDevices::Named(devices) => {
                let names: Vec<String> = devices.iter().map(|d| d.display().to_string()).collect();
                names.join(", ")
            }
        }
    }
}
