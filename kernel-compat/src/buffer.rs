//! The memory that reads go into.
//!
//! A pool hands out buffers cut from chunks. Each read has a buffer of its own although nobody
//! looks at the data: with protection information (T10 PI, NVMe PI), btrfs or dm-integrity the
//! kernel computes a checksum over the buffer after the read, and two devices writing into the
//! same memory would make a healthy one look damaged.
//!
//! A chunk is freed when the pool is dropped, unless one of its buffers is still out: then the
//! kernel may still write into it, and it is leaked.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::backend::MAX_READ_LEN;

/// Chunks are aligned to this, and buffers to their own size up to this. O_DIRECT wants at most
/// the logical block size (open(2)); no Linux block device has one above a page but with
/// large-block support, where [`MAX_READ_LEN`] buffers are still page-aligned, which
/// `dma_alignment` allows.
const CHUNK_ALIGN: usize = 4096;
const CHUNK_MIN: usize = 64 * 1024;
const CHUNK_MAX: usize = 1024 * 1024;
/// log2 of the smallest buffer: a sector.
const MIN_SHIFT: u32 = 9;
const CLASSES: usize = (MAX_READ_LEN.ilog2() - MIN_SHIFT + 1) as usize;

/// A buffer that is out of the pool. It has to come back by [`BufferPool::put`], and only when the
/// kernel no longer owns it; if it never does, its chunk is never freed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    chunk: u32,
    slot: u32,
}

struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
    shift: u32,
    out: u32,
    registered: bool,
}

// SAFETY: a chunk is plain memory that this value owns alone; nothing in it belongs to a thread.
unsafe impl Send for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.out == 0 {
            // SAFETY: `start` came from alloc_zeroed with this layout, is owned by this chunk
            // alone, and no buffer of it is out, so the kernel does not own any of it.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

/// Memory of one chunk, for registering it with a ring.
#[derive(Clone, Copy)]
pub(crate) struct ChunkMemory {
    pub(crate) index: u32,
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
}

/// Buffers by size; grows by need and never shrinks.
#[derive(Default)]
pub(crate) struct BufferPool {
    chunks: Vec<Chunk>,
    free: [Vec<Buffer>; CLASSES],
}

impl BufferPool {
    /// Takes a buffer of at least `len` bytes (1 to [`MAX_READ_LEN`]). `register` hears of a chunk
    /// that had to be made, and answers whether the ring has it now. `None` when there is no memory.
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
        self.chunks[buffer.chunk as usize].out += 1;
        Some(buffer)
    }

    /// Takes a buffer back that the kernel no longer owns.
    pub(crate) fn put(&mut self, buffer: Buffer) {
        let chunk = &mut self.chunks[buffer.chunk as usize];
        assert!(chunk.out > 0, "a buffer came back twice");
        chunk.out -= 1;
        self.free[(chunk.shift - MIN_SHIFT) as usize].push(buffer);
    }

    /// Where a buffer's memory begins. Valid as long as the buffer is out.
    pub(crate) fn address(&self, buffer: &Buffer) -> NonNull<u8> {
        let chunk = &self.chunks[buffer.chunk as usize];
        // SAFETY: `slot` was made by `grow` and lies within the chunk's allocation.
        unsafe { chunk.start.add((buffer.slot as usize) << chunk.shift) }
    }

    /// The number of the chunk that it lies in, if that was registered.
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
        // dropped and no buffer is out.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.chunks.push(Chunk {
            start,
            layout,
            shift,
            out: 0,
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
    fn a_buffer_is_reused_only_after_it_came_back() {
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
        assert_eq!(chunks, 2, "64 KiB hold 128 sectors");
        let addresses: HashSet<_> = held.iter().map(|b| pool.address(b)).collect();
        assert_eq!(addresses.len(), held.len());
        for buffer in held {
            pool.put(buffer);
        }
        for _ in 0..129 {
            let buffer = pool
                .take(512, |_| panic!("there was room"))
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
