//! The load process of a saturated disk. It has more threads than the loop device has tags, and
//! each thread reads forever. When a read ends, its thread takes the freed tag for its next read
//! before any other process gets it. The threads without a tag wait in the kernel, in D state. So
//! all tags stay taken, at no cost while the disk does not answer.
//!
//! It ends when its stdin does: with its supervisor, or by SIGKILL from the supervisor. Its threads
//! can end only after the disk has released their reads, so it has to be a separate process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Read size and alignment in bytes: the largest logical block of a disk.
const BLOCK: usize = 4096;
const STACK_BYTES: usize = 64 * 1024;
/// Pause after a read that failed sooner than this, so that the threads do not spin on a failing
/// disk.
const PAUSE: Duration = Duration::from_millis(20);

/// Arguments: the device and the number of threads.
pub(crate) fn run(args: &[OsString]) -> io::Result<()> {
    let [path, threads] = args else {
        return Err(io::Error::other(
            "load: expected a device and a number of threads",
        ));
    };
    let threads: u64 = threads
        .to_str()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| io::Error::other("load: threads"))?;
    let direct = OFlags::DIRECT.bits().cast_signed();
    let device = Arc::new(
        OpenOptions::new()
            .read(true)
            .custom_flags(direct)
            .open(path)?,
    );
    let blocks = size(&device)? / BLOCK as u64;
    for i in 0..threads {
        let device = Arc::clone(&device);
        let reader = move || read_forever(&device, i, blocks.max(1));
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(reader)?;
    }
    let _ = io::stdin().read(&mut [0]);
    std::process::exit(0)
}

fn size(device: &File) -> io::Result<u64> {
    use std::io::Seek;
    let mut device = device;
    device.seek(io::SeekFrom::End(0))
}

fn read_forever(device: &File, thread: u64, blocks: u64) {
    let mut space = vec![0_u8; 2 * BLOCK];
    let start = space.as_ptr().align_offset(BLOCK);
    let buffer = &mut space[start..start + BLOCK];
    // Each thread reads its own blocks, far from those of other threads, so that no two reads are
    // merged into one request.
    let mut block = thread.wrapping_mul(0x9E37_79B9) % blocks;
    loop {
        let begin = Instant::now();
        let is_read = matches!(device.read_at(buffer, block * BLOCK as u64), Ok(n) if n > 0);
        if !is_read && begin.elapsed() < PAUSE {
            thread::sleep(PAUSE);
        }
        block = (block + 7) % blocks;
    }
}
