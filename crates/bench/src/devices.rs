//! What is checked: loop devices of our own, or what the user names.

use std::path::{Path, PathBuf};

use pathpulse_faultdisk::PlainDisks;

use crate::files::open_direct;
use crate::plan::{Plan, Refusal};

/// The folder for files in memory.
const MEMORY: &str = "/dev/shm";
const SIZE_BYTES: u64 = 1 << 20;
/// More devices than these are made only when there would be more paths to one than its tags allow.
const DEVICES: usize = 64;
/// A loop device has 128 tags; a read that finds none is no check of how fast checks are.
const PATHS_PER_DEVICE: usize = 64;

/// Where the paths lead.
pub(crate) enum Bed {
    Plain(PlainDisks),
    Named(Vec<PathBuf>),
}

impl Bed {
    pub(crate) fn new(plan: &Plan) -> Result<Bed, Refusal> {
        if plan.devices.is_empty() {
            return Bed::plain(plan.paths);
        }
        for device in &plan.devices {
            open_direct(device).map_err(|problem| {
                Refusal(format!(
                    "{problem}; name block devices or files that take O_DIRECT"
                ))
            })?;
        }
        Ok(Bed::Named(plan.devices.clone()))
    }

    /// Loop devices over files in memory, as many as so many paths need.
    pub(crate) fn plain(paths: usize) -> Result<Bed, Refusal> {
        let count = paths.min(DEVICES).max(paths.div_ceil(PATHS_PER_DEVICE));
        Bed::of(count)
    }

    /// So many loop devices.
    pub(crate) fn of(count: usize) -> Result<Bed, Refusal> {
        PlainDisks::new(count, SIZE_BYTES, Path::new(MEMORY))
            .map(Bed::Plain)
            .map_err(|problem| {
                Refusal(format!(
                    "no loop devices: {problem}; run it as root, or name devices"
                ))
            })
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            Bed::Plain(disks) => disks.paths(),
            Bed::Named(devices) => devices,
        }
    }

    /// Whether they are of our own making, so that others of the same kind can be made to hang.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Bed::Plain(_))
    }

    /// In words.
    pub(crate) fn name(&self) -> String {
        match self {
            Bed::Plain(disks) => format!("{} loop devices over memory", disks.paths().len()),
            Bed::Named(devices) => {
                let names: Vec<String> = devices.iter().map(|d| d.display().to_string()).collect();
                names.join(", ")
            }
        }
    }
}
