//! The memory that a reader shares with its supervisor, and what lies where in it.
//!
//! The reader writes the status of its worker, of its paths and of their groups; the supervisor
//! reads it, without asking the reader. Slots are numbered by the supervisor. Only the pages of
//! slots that were used take up memory.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use pathpulse_kernel_compat::{Errno, KernelError, SharedMemory, Words};

use crate::status::{HISTOGRAM_WORDS, Histogram, PROGRESS_WORDS, Progress, SHARED_CELL_WORDS};

/// The number of paths that a reader can have.
pub(super) const PATHS_MAX: u32 = 1 << 16;
/// The number of groups that the paths of a reader can have, with the one for paths without one.
pub(super) const GROUPS_MAX: u32 = 1 << 14;

/// The slot of the latencies of all paths without a group.
pub(super) const NO_GROUP: u32 = 0;

const GROUPS: usize = PROGRESS_WORDS;
const CELLS: usize = GROUPS + GROUPS_MAX as usize * HISTOGRAM_WORDS;
const WORDS: usize = CELLS + PATHS_MAX as usize * SHARED_CELL_WORDS;

/// The shared memory of one reader.
#[derive(Clone)]
pub(super) struct Segment(Arc<SharedMemory>);

impl Segment {
    /// Creates the memory of a reader.
    pub(super) fn create() -> Result<Segment, KernelError> {
        SharedMemory::create("pathpulse-status", WORDS).map(|memory| Segment(Arc::new(memory)))
    }

    /// Maps the memory that the supervisor created.
    pub(super) fn open(file: OwnedFd) -> Result<Segment, KernelError> {
        let memory = SharedMemory::open(file)?;
        if memory.words().len() != WORDS {
            let hint = "the supervisor is another version of the program";
            return Err(KernelError::new("mmap", Errno::EINVAL).hint(hint));
        }
        Ok(Segment(Arc::new(memory)))
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.0.file()
    }

    /// The status of the worker.
    pub(super) fn progress(&self) -> Progress {
        Progress::over(self.0.part(0..PROGRESS_WORDS))
    }

    /// The latencies of a group; `None` if there is no such slot.
    pub(super) fn group(&self, slot: u32) -> Option<Histogram> {
        let start = GROUPS + slot as usize * HISTOGRAM_WORDS;
        let is_one = slot < GROUPS_MAX;
        is_one.then(|| Histogram::over(self.0.part(start..start + HISTOGRAM_WORDS)))
    }

    /// The words of a path's cell; `None` if there is no such slot.
    pub(super) fn cell(&self, slot: u32) -> Option<Words> {
        let start = CELLS + slot as usize * SHARED_CELL_WORDS;
        let is_one = slot < PATHS_MAX;
        is_one.then(|| self.0.part(start..start + SHARED_CELL_WORDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_slots() {
        let ours = Segment::create().expect("memory");
        let file = ours.file().try_clone_to_owned().expect("a descriptor");
        let theirs = Segment::open(file).expect("memory");
        for slot in [0, 1, PATHS_MAX - 1] {
            let (mine, other) = (ours.cell(slot), theirs.cell(slot));
            let (mine, other) = (mine.expect("a slot"), other.expect("a slot"));
            mine[3].store(u64::from(slot) + 7, std::sync::atomic::Ordering::Relaxed);
            let seen = other[3].load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(seen, u64::from(slot) + 7);
        }
        let group = theirs.group(GROUPS_MAX - 1).expect("a slot");
        group.count(5);
        let seen = ours.group(GROUPS_MAX - 1).expect("a slot").snapshot();
        assert_eq!((seen.count(), seen.sum_us()), (1, 5));
        assert!(ours.cell(PATHS_MAX).is_none() && ours.group(GROUPS_MAX).is_none());
    }
}
