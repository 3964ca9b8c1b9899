//! Discovery: disks that appear, disappear and return, on real loop devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use pathpulse_faultdisk::{Disk, Spec, require};
use serde_json::Value;

use super::common::{Daemon, PATIENCE, plain_file, rig, stdout};

/// Attaches a file to the loop device of this name, which is created if necessary. The device is
/// free as soon as the kernel has closed the file before.
pub(crate) fn attach(device: &Path, file: &Path) {
    let begin = Instant::now();
    loop {
        make_node(device);
        let done = Command::new("losetup").arg(device).arg(file).output();
        let done = done.expect("losetup runs");
        if done.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(begin.elapsed() < PATIENCE, "{said}");
    }
}

/// A device that was in use when it was pulled still exists, without its node.
fn make_node(device: &Path) {
    let name = device.file_name().expect("a name").to_string_lossy();
    let number = fs::read_to_string(format!("/sys/block/{name}/dev"));
    if let (Ok(number), false) = (number, device.exists()) {
        let (major, minor) = number.trim().split_once(':').expect("two numbers");
        let mut mknod = Command::new("mknod");
        mknod.arg(device).args(["b", major, minor]);
        assert!(mknod.status().expect("mknod runs").success());
    }
}

/// A loop device that is detached when dropped.
pub(crate) struct Attached<'d>(pub(crate) &'d Path);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(self.0).status();
    }
}

fn watched(daemon: &Daemon) -> Vec<Value> {
    daemon.status()["paths"].as_array().expect("a list").clone()
}

/// Waits until this many paths are watched.
pub(crate) fn wait_count(daemon: &Daemon, count: usize) {
    let begin = Instant::now();
    while watched(daemon).len() != count {
        assert!(begin.elapsed() < PATIENCE, "{:?}", watched(daemon));
    }
}

#[test]
fn disks_are_discovered_removed_and_discovered_again() {
    require!();
    let disks = rig(&Spec::loops(3));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let text = format!(
        "[discovery]\nskip = []\ninclude = [{:?}, {:?}]\n[[path]]\nmatch = {:?}\ngroup = 'mine'\n",
        paths[0], paths[1], paths[1]
    );
    fs::write(&file, text).expect("written");
    let daemon = Daemon::start::<&Path>(&[], &["--config", file.to_str().expect("text")]);
    wait_count(&daemon, 2);
    daemon.wait_state(paths[0], "up");
    assert_eq!(daemon.wait_state(paths[1], "up")["group"], "mine");

    disks.vanish(0).expect("pulled");
    wait_count(&daemon, 1);
    let events = stdout(&daemon.run(&["events", "--format", "json"]));
    let removed = events
        .lines()
        .find(|line| line.contains(r#""to":"removed""#));
    let removed: Value = serde_json::from_str(removed.expect("an event")).expect("JSON");
    assert_eq!(
        (&removed["path"], &removed["cause"]),
        (&paths[0].to_str().into(), &"device_gone".into())
    );
    // Another disk with the same name is watched at once, not after a minute.
    let file = plain_file(1 << 20);
    attach(paths[0], file.path());
    let _attached = Attached(paths[0]);
    daemon.wait_state(paths[0], "up");
}

#[test]
fn a_named_disk_that_returns_is_checked_at_once() {
    require!();
    let disks = rig(&Spec::loops(3));
    let [first, other, second] = [0, 1, 2].map(|disk| disks.disks()[disk].path());
    // Like a link of udev: the name stays, but leads to another device when the disk returns.
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("disk");
    symlink(first, &link).expect("a link");
    let path = link.as_path();
    // The next regular check is in an hour, so only an extra check sees it return.
    let daemon = Daemon::start(&[path, other], &["--interval", "1h", "--rise", "1"]);
    daemon.wait_state(path, "up");
    disks.vanish(0).expect("pulled");
    disks.vanish(2).expect("pulled");
    let name = path.to_str().expect("text");
    assert!(daemon.run(&["check-now", name]).status.success());
    daemon.wait_state(path, "down");
    fs::remove_file(&link).expect("removed");
    symlink(second, &link).expect("a link");
    let file = plain_file(1 << 20);
    attach(second, file.path());
    let _attached = Attached(second);
    daemon.wait_state(path, "up");
    daemon.wait_state(other, "up");
}

#[test]
fn a_late_disk_is_opened_at_its_uevent() {
    require!();
    let disks = rig(&Spec::loops(1));
    let path = disks.disks()[0].path();
    disks.vanish(0).expect("pulled");
    let daemon = Daemon::start(&[path], &[]);
    let waiting = daemon.wait_state(path, "pending");
    assert_eq!(waiting["cause"], "not_open");
    let file = plain_file(1 << 20);
    attach(path, file.path());
    let _attached = Attached(path);
    daemon.wait_log("is there now");
    daemon.wait_state(path, "up");
}
