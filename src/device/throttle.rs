//! Whether this process's cgroup limits its reads of a device
//! (Documentation/admin-guide/cgroup-v2.rst, `io.max`; cgroup-v1/blkio-controller.rst).
//!
//! Such a limit holds a read above the device. Cgroups above the root of the process's cgroup
//! namespace are not visible.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the limits are cached, so that they are not read again for each of many silent devices.
const FRESH: Duration = Duration::from_millis(500);

/// When the limits were read, and the devices (`major:minor`) with limits.
static KNOWN: Mutex<Option<(Instant, Vec<String>)>> = Mutex::new(None);

/// Whether this process has a limit on reads of any of these devices (`major:minor`).
pub(crate) fn limits_reads(devices: impl FnOnce() -> Vec<String>) -> bool {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = known.take().filter(|(read, _)| read.elapsed() < FRESH);
    let (read, limited) = fresh.unwrap_or_else(|| (Instant::now(), limited_devices()));
    let any = !limited.is_empty() && devices().iter().any(|device| limited.contains(device));
    *known = Some((read, limited));
    any
}

fn limited_devices() -> Vec<String> {
    let groups = std::fs::read("/proc/self/cgroup").unwrap_or_default();
    let folders = folders_of(
        &String::from_utf8_lossy(&groups),
        Path::new("/sys/fs/cgroup"),
    );
    folders
        .iter()
        .flat_map(|folder| limited_in(folder))
        .collect()
}

/// The directories of this process's cgroups and of their parents, whose limits count, too.
fn folders_of(groups: &str, mount: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let roots = match controllers {
            "" => vec![mount.to_path_buf(), mount.join("unified")],
            _ if controllers.split(',').any(|name| name == "blkio") => {
                vec![mount.join("blkio"), mount.join(controllers)]
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        let all = roots
            .iter()
            .flat_map(|root| group.ancestors().map(|part| root.join(part)));
        folders.extend(all);
    }
    folders
}

/// The devices whose reads this cgroup limits.
fn limited_in(folder: &Path) -> Vec<String> {
    let lines = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let owned = lines.map(|(device, limits)| (device.to_owned(), limits.to_owned()));
        owned.collect::<Vec<(String, String)>>()
    };
    let is_read_limit = |limit: &str| {
        let (name, value) = limit.split_once('=').unwrap_or(("", "max"));
        matches!(name, "rbps" | "riops") && value != "max"
    };
    let unified = lines("io.max").into_iter();
    let unified = unified.filter(|(_, limits)| limits.split(' ').any(is_read_limit));
    let old = ["read_iops_device", "read_bps_device"].into_iter();
    let old = old.flat_map(|file| lines(&format!("blkio.throttle.{file}")));
    unified.chain(old).map(|(device, _)| device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn read_limits_of_all_parent_cgroups_count() {
        let root = tempfile::tempdir().expect("a folder");
        let groups = "4:blkio:/a/b\n3:cpu,cpuacct:/a\n0::/x/y\n";
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        };
        let limited = |device: &str| {
            let folders = folders_of(groups, root.path());
            let limited = folders.iter().flat_map(|folder| limited_in(folder));
            limited
                .collect::<Vec<_>>()
                .iter()
                .any(|known| known == device)
        };
        assert!(!limited("8:0"));
        write(
            "x/io.max",
            "8:0 rbps=max wbps=1 riops=max wiops=9\n8:16 riops=5\n",
        );
        assert!(!limited("8:0"), "writes only");
        assert!(limited("8:16"));
        assert!(!limited("8:1"));
        write("blkio/a/blkio.throttle.read_iops_device", "8:32 1\n");
        assert!(limited("8:32"));
        write("cpu,cpuacct/a/blkio.throttle.read_iops_device", "8:48 1\n");
        assert!(!limited("8:48"), "another controller's");
    }
}
