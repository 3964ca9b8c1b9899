//! Which block devices there are: what `check` checks if it is told nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// All disks that have something to read, in the order of their names. Partitions are left out:
/// they answer when their disk does.
pub(crate) fn block_devices() -> Vec<PathBuf> {
    disks_in(Path::new("/sys/block"), Path::new("/dev"))
}

fn disks_in(sysfs: &Path, dev: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(sysfs).into_iter().flatten().flatten();
    let mut disks: Vec<PathBuf> = entries
        .filter(|entry| is_worth_a_check(&entry.path()))
        // A name with a slash, such as cciss/c0d0, has an exclamation mark for it in sysfs.
        .map(|entry| dev.join(entry.file_name().to_string_lossy().replace('!', "/")))
        .collect();
    disks.sort();
    disks
}

fn is_worth_a_check(disk: &Path) -> bool {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(disk.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    // A floppy or optical drive has a size even when nothing is in it.
    let takes_media = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_used = !takes_media("loop") || disk.join("loop/backing_file").exists();
    number("size").is_some_and(|sectors| sectors > 0)
        && number("hidden") != Some(1)
        && is_used
        && !takes_media("fd")
        && !takes_media("sr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_hidden_or_removable_is_left_out() {
        let sysfs = tempfile::tempdir().expect("a folder");
        let disk = |name: &str, files: &[(&str, &str)]| {
            for (file, text) in files {
                let path = sysfs.path().join(name).join(file);
                fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
                fs::write(path, text).expect("a file");
            }
        };
        disk("sda", &[("size", "2048\n"), ("hidden", "0\n")]);
        disk("cciss!c0d0", &[("size", "2048\n")]);
        disk("nvme0c0n1", &[("size", "2048\n"), ("hidden", "1\n")]);
        disk("zram0", &[("size", "0\n")]);
        disk("loop0", &[("size", "8\n"), ("loop/backing_file", "/x\n")]);
        disk("loop1", &[("size", "8\n")]);
        disk("sr0", &[("size", "2097151\n")]);
        disk("fd0", &[("size", "8\n")]);
        disk("broken", &[("ro", "0\n")]);
        let found = disks_in(sysfs.path(), Path::new("/dev"));
        let expected = ["/dev/cciss/c0d0", "/dev/loop0", "/dev/sda"].map(PathBuf::from);
        assert_eq!(found, expected);
        assert!(disks_in(&sysfs.path().join("none"), Path::new("/dev")).is_empty());
    }
}
