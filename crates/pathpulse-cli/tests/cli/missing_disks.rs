//! Disks that disappear while they are in use, on real loop devices.
//!
//! A loop device with a mounted file system cannot be pulled. So the mounts here are in memory, and
//! only have the name of a loop device as their source, as those of btrfs can.

use std::fs;
use std::path::Path;
use std::process::Command;

use pathpulse_faultdisk::{Disk, Spec, require};
use serde_json::Value;

use super::common::{Daemon, pathpulse, plain_file, rig, stdout};
use super::discovery::{Attached, attach, wait_count};
use super::metrics::value;
use super::web::Web;

/// A daemon in its own mount namespace, with a mount from each of these devices in a directory of
/// the device's name below `folder`.
fn start(used: &[&Path], folder: &Path, config: &Path) -> Daemon {
    let script = r#"while [ "$1" != -- ]; do
        mkdir "$0/${1##*/}" && mount -t tmpfs -o size=4k "$1" "$0/${1##*/}" || exit 1; shift
    done; shift; exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(folder)
        .args(used)
        .arg("--")
        .arg(pathpulse().get_program());
    let config = config.to_str().expect("text");
    let daemon = Daemon::spawn_by::<&Path>(command, &[], &["--config", config]);
    daemon.wait_log("paths are watched");
    daemon
}

/// Unmounts the mount from this device in the daemon's namespace.
fn unmount(daemon: &Daemon, folder: &Path, device: &Path) {
    let mut nsenter = Command::new("nsenter");
    nsenter
        .args(["--mount", "--target", &daemon.pid().to_string(), "umount"])
        .arg(folder.join(device.file_name().expect("a name")));
    assert!(nsenter.status().expect("nsenter runs").success());
}

/// The event that this path was removed.
fn removed(daemon: &Daemon, path: &Path) -> Value {
    let events = stdout(&daemon.run(&["events", "--format", "json"]));
    let name = path.to_str().expect("text");
    let mut events = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let found = events.find(|event| event["to"] == "removed" && event["path"] == name);
    found.expect("an event")
}

#[test]
fn a_missing_disk_is_kept_until_it_returns_or_is_unused() {
    require!();
    let disks = rig(&Spec::loops(3));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    let text = format!("[discovery]\nskip = []\ninclude = {paths:?}\n");
    fs::write(&config, text).expect("written");
    let daemon = start(&paths[..2], folder.path(), &config);
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    // While the device is open, its name is not given to another one.
    let held = fs::File::open(paths[0]).expect("opened");
    for disk in [0, 1] {
        disks.vanish(disk).expect("pulled");
        let missing = daemon.wait_state(paths[disk], "pending");
        assert_eq!(missing["cause"], "device_gone");
        let place = folder.path().join(paths[disk].file_name().expect("a name"));
        let why = format!(
            "its disk is gone, and what is mounted on {} still uses it",
            place.display()
        );
        assert_eq!(missing["message"], *why);
        let event = removed(&daemon, paths[disk]);
        assert_eq!(
            (&event["cause"], &event["detail"]),
            (&"device_gone".into(), &why.into())
        );
    }
    let metrics = Web::socket(&daemon).get("/metrics").body;
    for path in &paths[..2] {
        let path = path.display();
        let series = format!(r#"pathpulse_path_waiting_seconds{{path="{path}",group=""}}"#);
        assert!(value(&metrics, &series) >= 0.0);
    }

    let file = plain_file(1 << 20);
    drop(held);
    attach(paths[0], file.path());
    let _attached = Attached(paths[0]);
    daemon.wait_state(paths[0], "up");
    // Unused disks are removed: the missing one, and the one that is pulled now.
    unmount(&daemon, folder.path(), paths[1]);
    disks.vanish(2).expect("pulled");
    wait_count(&daemon, 1);
    daemon.wait_state(paths[0], "up");
}

#[test]
fn another_path_to_the_same_storage_replaces_a_missing_one() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    let write = |include: &[&Path]| {
        let group = "[[path]]\nmatch = '/dev/**'\ngroup = 'mine'\n";
        let text = format!("[discovery]\nskip = []\ninclude = {include:?}\n{group}");
        fs::write(&config, text).expect("written");
    };
    write(&paths);
    let daemon = start(&paths, folder.path(), &config);
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    let _held = fs::File::open(paths[0]).expect("opened");
    disks.vanish(0).expect("pulled");
    assert_eq!(daemon.wait_state(paths[0], "pending")["group"], "mine");
    let back = disks.reappear(0).expect("plugged in");
    assert_ne!(back.path(), paths[0]);
    // A missing disk survives a reload that still includes it.
    write(&[paths[0], paths[1], back.path()]);
    let reloaded = daemon.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    daemon.wait_state(back.path(), "up");
    wait_count(&daemon, 2);
    daemon.wait_state(paths[1], "up");
    // It does not survive a reload that excludes it.
    disks.vanish(1).expect("pulled");
    daemon.wait_state(paths[1], "pending");
    write(&[back.path()]);
    let reloaded = daemon.run(&["reload"]);
    let counts = stdout(&reloaded);
    assert!(
        counts.contains("0 paths added, 1 removed, 0 changed, 1 unchanged"),
        "{reloaded:?}"
    );
    wait_count(&daemon, 1);
}
