//! The control: a disk without faults that is read all the time. If its reads take longer than
//! usual, the machine or the rig is slow, not the daemon. Then everything may take that much
//! longer.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::message::{Clock, RunMsg};

/// The time between two reads.
const PAUSE: Duration = Duration::from_millis(5);
/// A read that takes longer than this, besides the pause, is reported as a stall.
const USUAL: Duration = Duration::from_millis(20);
/// Read size and alignment in bytes.
const BLOCK: usize = 4096;

/// Starts reading the disk, and reports progress and stalls as long as there is a receiver.
///
/// # Errors
/// The disk can't be opened.
pub(crate) fn start(
    disk: &Path,
    clock: Clock,
    messages: Sender<RunMsg>,
) -> io::Result<JoinHandle<()>> {
    let mut options = OpenOptions::new();
    let direct = OFlags::DIRECT.bits().cast_signed();
    let file = options.read(true).custom_flags(direct).open(disk)?;
    Ok(thread::spawn(move || {
        let mut space = vec![0_u8; 2 * BLOCK];
        let start = space.as_ptr().align_offset(BLOCK);
        let mut from = clock.now();
        loop {
            thread::sleep(PAUSE);
            if let Err(error) = file.read_at(&mut space[start..start + BLOCK], 0) {
                let _ = messages.send(RunMsg::SourceEnded(format!("the control disk: {error}")));
                return;
            }
            let to = clock.now();
            let message = match to - from > PAUSE + USUAL {
                true => RunMsg::Stall(from, to),
                false => RunMsg::ControlRead(to),
            };
            if messages.send(message).is_err() {
                return;
            }
            from = to;
        }
    }))
}
