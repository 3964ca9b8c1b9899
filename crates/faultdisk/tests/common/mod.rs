//! Functions that read fault disks, for the tests.
#![allow(dead_code)] // Each test file uses a part.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

pub(crate) const BLOCK: usize = 4096;
/// How long a test waits for an event that is certain. Only a broken rig takes this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const EIO: i32 = 5;
pub(crate) const ENODEV: i32 = 19;

/// Opens a disk as pathpulse does.
pub(crate) fn open(path: &Path) -> File {
    let direct = OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .custom_flags(direct)
        .open(path)
        .expect("open the disk")
}

/// An aligned buffer of `BLOCK` bytes within `space`.
pub(crate) fn aligned(space: &mut Vec<u8>) -> &mut [u8] {
    space.resize(2 * BLOCK, 0);
    let start = space.as_ptr().align_offset(BLOCK);
    &mut space[start..start + BLOCK]
}

/// Reads one block, and waits as long as the disk takes.
pub(crate) fn read(file: &File, block: u64) -> io::Result<Vec<u8>> {
    let mut space = Vec::new();
    let buffer = aligned(&mut space);
    let n = file.read_at(buffer, block * BLOCK as u64)?;
    Ok(buffer[..n].to_vec())
}

/// The errno of a read that must fail.
pub(crate) fn read_errno(file: &File) -> Option<i32> {
    read(file, 0)
        .expect_err("this read must fail")
        .raw_os_error()
}

/// Makes one read in a separate thread. The receiver gets its outcome.
pub(crate) fn read_in_thread(file: &File, block: u64) -> Receiver<io::Result<Vec<u8>>> {
    let file = file.try_clone().expect("clone a descriptor");
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(read(&file, block)));
    receiver
}

/// The outcome of a read that must end now.
pub(crate) fn outcome(receiver: &Receiver<io::Result<Vec<u8>>>) -> io::Result<Vec<u8>> {
    receiver.recv_timeout(TIMEOUT).expect("the read must end")
}

/// One read with `RWF_NOWAIT`. If it gets a tag, it waits for the disk like any other read.
pub(crate) fn read_nowait(file: &File, block: u64) -> Result<usize, Errno> {
    let mut space = Vec::new();
    let buffer = aligned(&mut space);
    preadv2(
        file,
        &mut [IoSliceMut::new(buffer)],
        block * BLOCK as u64,
        ReadWriteFlags::NOWAIT,
    )
}

/// Reads completed by a block device since boot. This makes no I/O.
pub(crate) fn reads_completed((major, minor): (u32, u32)) -> u64 {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))
        .expect("stat in sysfs");
    text.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// The size of a block device according to the kernel, in bytes.
pub(crate) fn size_in_sysfs((major, minor): (u32, u32)) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/size")).ok()?;
    text.trim().parse::<u64>().ok().map(|sectors| sectors * 512)
}

/// Waits for a condition without an event, such as another rig's release of a reused device number.
pub(crate) fn eventually(condition: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < TIMEOUT {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}
