//! Memory that two processes share: numbers that one writes and the other reads, without locks.
//!
//! A [`SharedMemory`] is a mapped memory file (memfd_create(2)) whose size is sealed. One process
//! makes it and passes [`SharedMemory::file`] on, such as with [`Child::start`](crate::Child); the
//! other opens it. [`Words`] are numbers that belong to whoever writes them, either on the heap or
//! in such a memory, so that the writer need not know which.
//!
//! What the numbers mean, and in which order they are written, is decided by the users of this
//! module. The other process may write any value at any time: check what you read.

use std::fmt;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::errno::Errno;
use crate::error::KernelError;

const WORD_SIZE: usize = size_of::<AtomicU64>();

/// The seals without which the other process could cut off the memory. An access to memory beyond
/// the end of its file ends the process with `SIGBUS` (mmap(2)).
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A memory file, mapped for reading and writing.
///
/// This value owns the mapping and one descriptor of the file. Dropping it removes both. The kernel
/// frees the memory when no process has a mapping or a descriptor of it any more.
pub struct SharedMemory {
    /// The whole mapping.
    words: NonNull<[AtomicU64]>,
    file: OwnedFd,
}

// SAFETY: the mapping is owned by this value alone, bound to no thread, and only reached as
// atomics.
unsafe impl Send for SharedMemory {}
// SAFETY: as above: atomics may be used by several threads at once.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes a memory of this many words, all zero. Its size can never be changed. Memory is used
    /// only for pages (4 KiB) that were read or written.
    ///
    /// `name` appears in `/proc/PID/maps`, for people; names need not differ. It has at most 249
    /// bytes and no NUL (memfd_create(2)).
    ///
    /// # Errors
    /// `EINVAL` for no words or a bad name, `EMFILE` or `ENFILE` when no descriptors are left,
    /// `ENOMEM`, or `EACCES` where the system forbids memory files.
    pub fn create(name: &str, words: usize) -> Result<SharedMemory, KernelError> {
        let len = words
            .checked_mul(WORD_SIZE)
            .ok_or(KernelError::new("ftruncate", Errno::EFBIG))?;
        let file = memory_file(name)?;
        rustix::fs::ftruncate(&file, len as u64).map_err(of("ftruncate"))?;
        rustix::fs::fcntl_add_seals(&file, SIZE_SEALS | SealFlags::SEAL)
            .map_err(of("fcntl(F_ADD_SEALS)"))?;
        SharedMemory::map(file, words)
    }

    /// Maps a memory that another process made. Takes its size from the file.
    ///
    /// # Errors
    /// `EPERM` if the size of the file is not sealed, `EINVAL` if it is zero or not a multiple of 8
    /// bytes, or the errno of mmap(2).
    pub fn open(file: OwnedFd) -> Result<SharedMemory, KernelError> {
        // Fails with EINVAL for a file that knows no seals (fcntl(2)).
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if !seals.contains(SIZE_SEALS) {
            return Err(KernelError::new("fcntl(F_GET_SEALS)", Errno::EPERM)
                .hint("the size of this file may change; pass a memory that pathpulse made"));
        }
        // The size is read after the seals, so it is final.
        let size = rustix::fs::fstat(&file).map_err(of("fstat"))?.st_size;
        let len = usize::try_from(size).unwrap_or(0);
        if len == 0 || len % WORD_SIZE != 0 {
            let hint = format!("{size} bytes are no shared memory; pass one that pathpulse made");
            return Err(KernelError::new("fstat", Errno::EINVAL).hint(hint));
        }
        SharedMemory::map(file, len / WORD_SIZE)
    }

    fn map(file: OwnedFd, words: usize) -> Result<SharedMemory, KernelError> {
        let (len, access) = (words * WORD_SIZE, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: without an address wished for, the kernel chooses one where nothing is. The value
        // made below owns the mapping and removes it.
        let start =
            unsafe { rustix::mm::mmap(null_mut(), len, access, MapFlags::SHARED, &file, 0) }
                .map_err(of("mmap"))?;
        let start = NonNull::new(start.cast::<AtomicU64>()).expect("mmap maps nothing at zero");
        assert!(start.is_aligned(), "mmap returns the start of a page");
        Ok(SharedMemory {
            words: NonNull::slice_from_raw_parts(start, words),
            file,
        })
    }

    /// All words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this length, the seals keep its file as long, and it stays until
        // this value is dropped. Any bytes are valid atomics, whoever writes them.
        unsafe { self.words.as_ref() }
    }

    /// The file, to be passed to another process, which opens it with [`SharedMemory::open`].
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Some of the words. They stay mapped as long as the part lives, and other parts may overlap.
    ///
    /// # Panics
    /// If the range does not lie within the memory.
    pub fn part(self: &Arc<SharedMemory>, range: Range<usize>) -> Words {
        Words {
            words: NonNull::from(&self.words()[range]),
            memory: Some(Arc::clone(self)),
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let (start, len) = (self.words.cast().as_ptr(), self.words.len() * WORD_SIZE);
        // SAFETY: `map` made this mapping, this value owns it alone, and borrows of it have ended;
        // each part holds a reference to this value.
        let unmapped = unsafe { rustix::mm::munmap(start, len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping: {unmapped:?}");
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory")
            .field("words", &self.words.len())
            .field("file", &self.file)
            .finish()
    }
}

/// An empty memory file that can be sealed and, from Linux 6.3 on, never executed.
fn memory_file(name: &str) -> Result<OwnedFd, KernelError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|errno| match errno {
            // An older kernel does not know NOEXEC_SEAL.
            rustix::io::Errno::INVAL => rustix::fs::memfd_create(name, flags),
            errno => Err(errno),
        })
        .map_err(of("memfd_create"))
}

fn of(call: &'static str) -> impl Fn(rustix::io::Errno) -> KernelError {
    move |errno| KernelError::new(call, errno.into())
}

/// A slice of atomic numbers, either on the heap or a part of a [`SharedMemory`]. To read it costs
/// the same in both cases: no branch tells them apart.
pub struct Words {
    words: NonNull<[AtomicU64]>,
    /// What keeps the words mapped. `None` if this value owns them, on the heap.
    memory: Option<Arc<SharedMemory>>,
}

const _: () = assert!(size_of::<Words>() == 3 * size_of::<usize>());

// SAFETY: the words are owned by this value or kept by its share of the memory, neither of which is
// bound to a thread, and are only reached as atomics.
unsafe impl Send for Words {}
// SAFETY: as above: atomics may be used by several threads at once.
unsafe impl Sync for Words {}

impl Words {
    /// Zeroes on the heap, in one allocation of exactly `8 * len` bytes.
    pub fn on_heap(len: usize) -> Words {
        let words: Box<[AtomicU64]> = (0..len).map(|_| AtomicU64::new(0)).collect();
        Words {
            words: NonNull::from(Box::leak(words)),
            memory: None,
        }
    }

    /// Makes all words zero. Nobody else may write meanwhile.
    pub fn clear(&self) {
        for word in self.iter() {
            word.store(0, Relaxed);
        }
    }

    /// Takes over the values of the other words. If one of the two has more, the rest of it stays
    /// as it is. Nobody else may write meanwhile.
    pub fn copy_from(&self, other: &Words) {
        for (word, from) in self.iter().zip(other.iter()) {
            word.store(from.load(Relaxed), Relaxed);
        }
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the words are on the heap and owned by this value, or in a mapping that `memory`
        // keeps. Both last until this value is dropped.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if self.memory.is_none() {
            // SAFETY: `on_heap` leaked this box, this value alone owns it, and borrows have ended.
            drop(unsafe { Box::from_raw(self.words.as_ptr()) });
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words")
            .field("len", &self.words.len())
            .field("shared", &self.memory.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::Ordering;

    fn values(words: &[AtomicU64]) -> Vec<u64> {
        words.iter().map(|w| w.load(Ordering::Relaxed)).collect()
    }

    fn dup(file: BorrowedFd) -> OwnedFd {
        file.try_clone_to_owned().expect("a descriptor")
    }

    /// A memory file of this many bytes.
    fn file_of(bytes: u64, seals: SealFlags) -> OwnedFd {
        let file = memory_file("test").expect("a memory file");
        rustix::fs::ftruncate(&file, bytes).expect("its size");
        rustix::fs::fcntl_add_seals(&file, seals).expect("its seals");
        file
    }

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let writer = SharedMemory::create("test", 1000).expect("a memory");
        let reader = SharedMemory::open(dup(writer.file())).expect("the same memory");
        assert_ne!(writer.words().as_ptr(), reader.words().as_ptr());
        assert_eq!(values(reader.words()), [0; 1000]);
        writer.words()[0].store(7, Ordering::Release);
        writer.words()[999].store(u64::MAX, Ordering::Release);
        assert_eq!(reader.words()[0].load(Ordering::Acquire), 7);
        assert_eq!(reader.words()[999].load(Ordering::Acquire), u64::MAX);
        drop(writer);
        assert_eq!(reader.words()[0].load(Ordering::Acquire), 7);
    }

    #[test]
    fn nobody_changes_the_size_or_the_seals() {
        let memory = SharedMemory::create("test", 512).expect("a memory");
        let file = dup(memory.file());
        for size in [0, 4088, 8192] {
            let refused = rustix::fs::ftruncate(&file, size).unwrap_err();
            assert_eq!(refused, rustix::io::Errno::PERM, "to {size} bytes");
        }
        let refused = rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).unwrap_err();
        assert_eq!(refused, rustix::io::Errno::PERM);
    }

    #[test]
    fn a_file_whose_size_may_change_is_refused() {
        for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW] {
            let error = SharedMemory::open(file_of(4096, seals)).unwrap_err();
            assert_eq!(error.errno, Errno::EPERM, "{seals:?}");
            assert!(!error.hint.is_empty());
        }
        let program = std::fs::File::open("/proc/self/exe").expect("this program");
        let error = SharedMemory::open(program.into()).unwrap_err();
        assert_eq!(error.errno, Errno::EPERM);
    }

    #[test]
    fn a_file_of_no_or_half_words_is_refused() {
        for bytes in [0, 4, 4095, 4100] {
            let error = SharedMemory::open(file_of(bytes, SIZE_SEALS)).unwrap_err();
            assert_eq!(error.errno, Errno::EINVAL, "{bytes} bytes");
        }
        let memory = SharedMemory::open(file_of(4104, SIZE_SEALS)).expect("whole words");
        assert_eq!(memory.words().len(), 513);
        assert!(SharedMemory::create("test", 0).is_err());
        assert!(SharedMemory::create("test", usize::MAX).is_err());
        assert!(SharedMemory::create("a\0b", 1).is_err());
    }

    #[test]
    fn a_part_outlives_the_handle_of_its_memory() {
        let memory = Arc::new(SharedMemory::create("test", 8).expect("a memory"));
        let alive = Arc::downgrade(&memory);
        let reader = SharedMemory::open(dup(memory.file())).expect("the same memory");
        let (first, second) = (memory.part(0..3), memory.part(3..8));
        drop(memory);
        drop(first);
        assert_eq!(second.len(), 5);
        second[4].store(9, Ordering::Relaxed);
        assert_eq!(values(reader.words()), [0, 0, 0, 0, 0, 0, 0, 9]);
        assert!(alive.upgrade().is_some());
        drop(second);
        assert!(alive.upgrade().is_none(), "the last part frees the memory");
    }

    #[test]
    fn a_part_beyond_the_end_panics() {
        let memory = Arc::new(SharedMemory::create("test", 8).expect("a memory"));
        assert!(memory.part(8..8).is_empty());
        for end in [9, usize::MAX] {
            let part = catch_unwind(AssertUnwindSafe(|| memory.part(8..end)));
            assert!(part.is_err(), "8..{end}");
        }
        assert_eq!(Arc::strong_count(&memory), 1);
    }

    #[test]
    fn words_are_copied_as_far_as_both_have_them() {
        let memory = Arc::new(SharedMemory::create("test", 8).expect("a memory"));
        let (shared, heap) = (memory.part(2..4), Words::on_heap(3));
        for (word, value) in heap.iter().zip(1..) {
            word.store(value, Ordering::Relaxed);
        }
        shared.copy_from(&heap);
        assert_eq!(values(memory.words()), [0, 0, 1, 2, 0, 0, 0, 0]);
        shared[0].store(9, Ordering::Relaxed);
        heap.copy_from(&shared);
        assert_eq!(values(&heap), [9, 2, 3]);
        shared.clear();
        assert_eq!(values(memory.words()), [0; 8]);
    }

    #[test]
    fn words_on_the_heap_start_at_zero_and_move_between_threads() {
        let words = Words::on_heap(5);
        assert_eq!(values(&words), [0; 5]);
        let words = std::thread::spawn(move || {
            words[2].store(3, Ordering::Relaxed);
            words
        });
        assert_eq!(values(&words.join().expect("no panic")), [0, 0, 3, 0, 0]);
        assert!(Words::on_heap(0).is_empty());
    }
}
