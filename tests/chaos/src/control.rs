//! The control: a disk to which nothing is ever done, read all the time. What it takes longer than it should, the
//! machine takes, or the rig, and not the daemon: so much longer may everything take then.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::run::{Clock, News};

/// From read to read.
const PAUSE: Duration = Duration::from_millis(5);
/// What takes longer than this, beside the pause, is told.
const USUAL: Duration = Duration::from_millis(20);
/// Read size and alignment in bytes.
const BLOCK: usize = 4096;

/// Reads the disk from now on, and tells how far it got and what took long, as long as anybody listens.
///
/// # Errors
/// It can't be opened.
pub(crate) fn start(disk: &Path, clock: Clock, news: Sender<News>) -> io::Result<JoinHandle<()>> {
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
                let _ = news.send(News::Silent(format!("the control disk: {error}")));
                return;
            }
            let to = clock.now();
            let told = match to - from > PAUSE + USUAL {
                true => News::Stalled(from, to),
                false => News::Ran(to),
            };
            if news.send(told).is_err() {
                return;
            }
            from = to;
        }
    }))
}
