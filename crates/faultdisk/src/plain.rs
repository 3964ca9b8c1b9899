//! Loop devices over plain files, without faults and as fast as possible, for benchmarks.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::loopdev;

/// How long to wait until others have closed the devices.
const CLOSING_LIMIT: Duration = Duration::from_secs(2);

/// Loop devices over files in memory. They disappear when this is dropped or the process dies: the
/// kernel detaches them when their last user closes them.
pub struct PlainDisks {
    disks: Vec<PathBuf>,
    numbers: Vec<u32>,
    held: Vec<File>,
}

impl PlainDisks {
    /// Creates `count` devices of `size_bytes` each, a multiple of 4096, over files in `folder`
    /// (`/dev/shm` for memory). The files are deleted at once and live as long as their devices.
    ///
    /// # Errors
    /// There is no root or no loop device, or the file system does not support `O_DIRECT`.
    pub fn new(count: usize, size_bytes: u64, folder: &Path) -> io::Result<PlainDisks> {
        let control = loopdev::control()?;
        let mut made = PlainDisks {
            disks: Vec::new(),
            numbers: Vec::new(),
            held: Vec::new(),
        };
        for _ in 0..count {
            let number = loopdev::add(&control, loopdev::random_start())?;
            made.numbers.push(number);
            let name = format!("pathpulse-plain-{}-{number}", std::process::id());
            let file = folder.join(name);
            let attached = File::create(&file)
                .and_then(|backing| backing.set_len(size_bytes))
                .and_then(|()| loopdev::attach(number, &file, 512));
            std::fs::remove_file(&file)?;
            attached?;
            let node = loopdev::node(number);
            made.held.push(OpenOptions::new().read(true).open(&node)?);
            // While it is open, this only sets autoclear: it is detached at the last close.
            loopdev::detach(number)?;
            made.disks.push(node);
        }
        Ok(made)
    }

    /// The devices.
    pub fn paths(&self) -> &[PathBuf] {
        &self.disks
    }
}

impl Drop for PlainDisks {
    fn drop(&mut self) {
        self.held.clear();
        let Ok(control) = loopdev::control() else {
            return;
        };
        let end = Instant::now() + CLOSING_LIMIT;
        for number in &self.numbers {
            // A dropped ring closes its files a little later, and no event reports that. A device
            // that is still open afterwards stays, without a file.
            while matches!(loopdev::remove(&control, *number), Ok(false)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
