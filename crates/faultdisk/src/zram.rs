//! A zram disk: a block device that does not support RWF_NOWAIT.

use std::path::{Path, PathBuf};
use std::{fs, io};

const CONTROL: &str = "/sys/class/zram-control";

/// A zram disk of 16 MiB, removed when dropped.
#[derive(Debug)]
pub struct Zram {
    number: String,
    node: PathBuf,
}

impl Zram {
    /// What is missing to create one. `None` if nothing is.
    pub fn missing() -> Option<String> {
        let control = Path::new(CONTROL).join("hot_add");
        (!control.exists()).then(|| {
            format!(
                "zram is needed: no {} (try: modprobe zram)",
                control.display()
            )
        })
    }

    /// Creates one. This needs root.
    pub fn create() -> io::Result<Zram> {
        let number = fs::read_to_string(Path::new(CONTROL).join("hot_add"))?;
        let number = number.trim().to_owned();
        let node = PathBuf::from(format!("/dev/zram{number}"));
        let size = format!("/sys/block/zram{number}/disksize");
        // From here on, a drop removes it.
        let zram = Zram { number, node };
        fs::write(size, "16M")?;
        Ok(zram)
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.node
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        // A reader may close it late: a ring does so after it was dropped.
        for _ in 0..100 {
            let _ = fs::write(format!("/sys/block/zram{}/reset", self.number), "1");
            if fs::write(Path::new(CONTROL).join("hot_remove"), &self.number).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
