//! Threads that read or write a device forever, bypassing the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

/// The alignment of buffers: the largest logical block of the lab's disks.
const BLOCK: usize = 4096;
const STACK_BYTES: usize = 64 * 1024;
/// The pause after an error, so that no thread spins on a device that fails at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Returns only if the device can't be opened.
pub(crate) fn run(writes: bool, device: &str, threads: u64, bytes: u64) -> io::Result<()> {
    let mut device = OpenOptions::new()
        .read(true)
        .write(writes)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(device)?;
    let blocks = device.seek(SeekFrom::End(0))? / bytes;
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let device = Arc::new(device);
    let work = |thread: u64| {
        let device = Arc::clone(&device);
        let work = move || repeat_requests(&device, writes, thread, blocks.max(1), bytes);
        thread::Builder::new().stack_size(STACK_BYTES).spawn(work)
    };
    let workers: Vec<_> = (0..threads).map(work).collect::<io::Result<_>>()?;
    for worker in workers {
        let _ = worker.join();
    }
    Ok(())
}

/// Each thread starts far from the others, so that the kernel does not merge their requests.
fn repeat_requests(device: &File, writes: bool, thread: u64, blocks: u64, bytes: usize) {
    let mut space = vec![0_u8; bytes + BLOCK];
    let begin = space.as_ptr().align_offset(BLOCK);
    let buffer = &mut space[begin..begin + bytes];
    let mut block = thread.wrapping_mul(0x9E37_79B9) % blocks;
    loop {
        let offset = block * bytes as u64;
        let done = match writes {
            true => device.write_at(buffer, offset),
            false => device.read_at(buffer, offset),
        };
        if done.is_err() {
            thread::sleep(PAUSE);
        }
        block = (block + 7) % blocks;
    }
}
