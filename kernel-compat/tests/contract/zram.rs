//! One zram disk: a block device that takes no RWF_NOWAIT.

use std::fs;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/sys/class/zram-control";

/// A zram disk of 16 MiB, removed when dropped.
pub(crate) struct Zram {
    number: String,
    node: PathBuf,
}

impl Zram {
    /// What is missing to make one.
    pub(crate) fn missing() -> Option<String> {
        let control = Path::new(CONTROL).join("hot_add");
        (!control.exists()).then(|| {
            format!(
                "zram is needed: no {} (try: modprobe zram)",
                control.display()
            )
        })
    }

    pub(crate) fn create() -> Zram {
        let number =
            fs::read_to_string(Path::new(CONTROL).join("hot_add")).expect("add a zram disk");
        let number = number.trim().to_owned();
        let node = PathBuf::from(format!("/dev/zram{number}"));
        fs::write(format!("/sys/block/zram{number}/disksize"), "16M").expect("size the zram disk");
        Zram { number, node }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.node
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        // Whoever read it may be slow to close it: a ring does so after it was dropped.
        for _ in 0..100 {
            let _ = fs::write(format!("/sys/block/zram{}/reset", self.number), "1");
            if fs::write(Path::new(CONTROL).join("hot_remove"), &self.number).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
