//! File systems for tests: one that hangs, and one on a simulated disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::PATIENCE;

/// A directory with a file system that never answers: a FUSE server that does not read requests.
pub(crate) struct HungMount {
    server: Child,
    folder: tempfile::TempDir,
}

impl HungMount {
    pub(crate) fn start() -> HungMount {
        let folder = tempfile::tempdir().expect("a folder");
        let script = r#"exec 9<>/dev/fuse
            mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hung "$0" && exec sleep 600"#;
        let server = Command::new("sh")
            .args(["-c", script])
            .arg(folder.path())
            .spawn();
        let server = server.expect("starts");
        let begin = Instant::now();
        let name = folder.path().to_str().expect("text").to_owned();
        while !fs::read_to_string("/proc/self/mountinfo")
            .expect("readable")
            .contains(&name)
        {
            assert!(begin.elapsed() < PATIENCE, "not mounted");
            std::thread::sleep(Duration::from_millis(5));
        }
        HungMount { server, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // The end of the server ends the connection, and all requests fail.
        let _ = self.server.kill();
        let _ = self.server.wait();
        umount(self.folder.path());
    }
}

fn umount(folder: &Path) {
    let _ = Command::new("umount")
        .arg("-l")
        .arg(folder)
        .stderr(Stdio::null())
        .status();
}

/// A file system on a disk, mounted until this is dropped.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn on(disk: &Path) -> Option<Mounted> {
        let folder = tempfile::tempdir().expect("a folder");
        let script = r#"mkfs.ext4 -q -F "$0" >/dev/null 2>&1 && mount "$0" "$1""#;
        let made = Command::new("sh")
            .args(["-c", script])
            .arg(disk)
            .arg(folder.path())
            .status();
        made.is_ok_and(|made| made.success())
            .then_some(Mounted(folder))
    }

    /// A written file on it.
    pub(crate) fn file(&self) -> PathBuf {
        let file = self.0.path().join("canary");
        fs::write(&file, vec![0xA5_u8; 1 << 16]).expect("written");
        fs::File::open(&file)
            .and_then(|file| file.sync_all())
            .expect("synced");
        file
    }

    /// Whether nobody uses it: it can be unmounted, and is mounted again.
    pub(crate) fn is_free(&self, disk: &Path) -> bool {
        let umount = Command::new("umount").arg(self.0.path()).output();
        let is_free = umount.expect("runs").status.success();
        if is_free {
            let mount = Command::new("mount").arg(disk).arg(self.0.path()).status();
            assert!(mount.expect("runs").success());
        }
        is_free
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount(self.0.path());
    }
}
