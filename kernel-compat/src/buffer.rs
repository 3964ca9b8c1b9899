//! The memory that reads write into.
//!
//! A pool hands out buffers cut from chunks. Each read has its own buffer, although nobody looks at
//! the data: with protection information (T10 PI, NVMe PI), btrfs or dm-integrity, the kernel
//! computes a checksum over the buffer after the read. If two devices wrote into the same memory, a
//! healthy one would appear damaged.
//!
//! A chunk is freed when the pool is dropped, unless one of its buffers is still in use. Then the
//! kernel may still write into the chunk, so it is leaked.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::backend::MAX_READ_LEN;

/// The alignment of chunks. Buffers are aligned to their own size up to this. O_DIRECT requires at
/// most the logical block size (open(2)). No Linux block device has a logical block size above one
/// page, except with large-block support, where [`MAX_READ_LEN`] buffers are still page-aligned,
/// which `dma_alignment` allows.
const CHUNK_ALIGN: usize = 4096;
const CHUNK_MIN: usize = 64 * 1024;
const CHUNK_MAX: usize = 1024 * 1024;
/// log2 of the smallest buffer: one sector.
const MIN_SHIFT: u32 = 9;
const CLASSES: usize = (MAX_READ_LEN.ilog2() - MIN_SHIFT + 1) as usize;

/// A buffer in use. Return it with [`BufferPool::put`], but only when the kernel no longer owns it.
/// If it is never returned, its chunk is never freed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    chunk: u32,
    slot: u32,
}

struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
    shift: u32,
    in_use: u32,
    registered: bool,
}

// SAFETY: a chunk is plain memory that this value owns alone. Nothing in it is bound to a thread.
unsafe impl Send for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.in_use == 0 {
            // SAFETY: `start` came from alloc_zeroed with this layout and is owned by this chunk
            // alone. None of its buffers is in use, so the kernel owns none of it.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

/// The memory of one chunk, for registering it with a ring.
#[derive(Clone, Copy)]
pub(crate) struct ChunkMemory {
    pub(crate) index: u32,
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
}

/// Buffers by size. The pool grows on demand and never shrinks.
#[derive(Default)]
pub(crate) struct BufferPool {
    chunks: Vec<Chunk>,
    free: [Vec<Buffer>; CLASSES],
}

impl BufferPool {
    /// Takes a buffer of at least `len` bytes (1 to [`MAX_READ_LEN`]). If a new chunk is needed,
    /// `register` is called with it and returns whether it is now registered with the ring. Returns
    /// `None` if there is no memory.
    pub(crate) fn take(
        &mut self,
        len: u32,
        register: impl FnOnce(ChunkMemory) -> bool,
    ) -> Option<Buffer> {
        let shift = len.next_power_of_two().ilog2().max(MIN_SHIFT);
        let class = (shift - MIN_SHIFT) as usize;
        if self.free.get(class)?.is_empty() {
            let memory = self.grow(class, shift)?;
            self.chunks[memory.index as usize].registered = register(memory);
        }
        let buffer = self.free[class].pop()?;
        self.chunks[buffer.chunk as usize].in_use += 1;
        Some(buffer)
    }

    /// Returns a buffer that the kernel no longer owns.
    pub(crate) fn put(&mut self, buffer: Buffer) {
        let chunk = &mut self.chunks[buffer.chunk as usize];
        assert!(chunk.in_use > 0, "a buffer was returned twice");
        chunk.in_use -= 1;
        self.free[(chunk.shift - MIN_SHIFT) as usize].push(buffer);
    }

    /// The start of a buffer's memory. Valid until the buffer is returned.
    pub(crate) fn address(&self, buffer: &Buffer) -> NonNull<u8> {
        let chunk = &self.chunks[buffer.chunk as usize];
        // SAFETY: `slot` was made by `grow` and lies within the chunk's allocation.
        unsafe { chunk.start.add((buffer.slot as usize) << chunk.shift) }
    }

    /// The number of the buffer's chunk, if that is registered.
    pub(crate) fn registered_chunk(&self, buffer: &Buffer) -> Option<u16> {
        let chunk = &self.chunks[buffer.chunk as usize];
        u16::try_from(buffer.chunk)
            .ok()
            .filter(|_| chunk.registered)
    }

    fn grow(&mut self, class: usize, shift: u32) -> Option<ChunkMemory> {
        let have: usize = self.chunks.iter().map(|chunk| chunk.layout.size()).sum();
        let size = have
            .next_power_of_two()
            .clamp(CHUNK_MIN, CHUNK_MAX)
            .max(1 << shift);
        let layout = Layout::from_size_align(size, CHUNK_ALIGN).ok()?;
        let index = u32::try_from(self.chunks.len()).ok()?;
        // SAFETY: the layout's size is not zero. The chunk owns the memory and frees it when it is
        // dropped and none of its buffers is in use.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.chunks.push(Chunk {
            start,
            layout,
            shift,
            in_use: 0,
            registered: false,
        });
        let slots = u32::try_from(size >> shift).ok()?;
        self.free[class].extend((0..slots).rev().map(|slot| Buffer { chunk: index, slot }));
        Some(ChunkMemory {
            index,
            start,
            len: size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn buffers_never_overlap_and_are_aligned() {
        let mut pool = BufferPool::default();
        let mut seen: Vec<(usize, usize)> = Vec::new();
        for len in [512, 512, 4096, 520, 131_072, 1].repeat(50) {
            let buffer = pool.take(len, |_| false).expect("memory");
            let start = pool.address(&buffer).as_ptr().addr();
            assert_eq!(
                start % (len.next_power_of_two() as usize).clamp(512, 4096),
                0
            );
            seen.push((start, start + len as usize));
        }
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }

    #[test]
    fn a_buffer_is_reused_only_after_its_return() {
        let mut pool = BufferPool::default();
        let mut chunks = 0;
        let held: Vec<Buffer> = (0..129)
            .map(|_| {
                pool.take(512, |_| {
                    chunks += 1;
                    false
                })
                .expect("memory")
            })
            .collect();
        assert_eq!(chunks, 2, "a chunk of 64 KiB holds 128 sectors");
        let addresses: HashSet<_> = held.iter().map(|b| pool.address(b)).collect();
        assert_eq!(addresses.len(), held.len());
        for buffer in held {
            pool.put(buffer);
        }
        for _ in 0..129 {
            let buffer = pool
                .take(512, |_| panic!("the pool has free buffers"))
                .expect("memory");
            assert!(addresses.contains(&pool.address(&buffer)));
        }
    }

    #[test]
    fn too_long_a_read_gets_no_buffer() {
        assert!(
            BufferPool::default()
                .take(MAX_READ_LEN + 1, |_| false)
                .is_none()
        );
    }
}
