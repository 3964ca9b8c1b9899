//! Uevents: what the daemon does when the kernel drops some for lack of room.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use pathpulse_faultdisk::{Behaviour, Disk, Spec, require};
use rustix::process::Signal;

use super::common::{Daemon, PATIENCE, pathpulse, plain_file, rig};
use super::discovery::{Attached, attach, wait_count};

/// The protocol of uevents in netlink(7).
const KOBJECT_UEVENT: &str = "15";

/// Without the privilege to get a larger socket buffer, as under the packaged unit.
fn modest() -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(pathpulse().get_program());
    command
}

/// Number of messages that the kernel dropped for this daemon.
fn dropped(daemon: &Daemon) -> u64 {
    let pid = daemon.pid().to_string();
    let begin = Instant::now();
    loop {
        let sockets = fs::read_to_string("/proc/net/netlink").expect("mounted");
        let socket = sockets.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[1] == KOBJECT_UEVENT && fields[2] == pid).then(|| fields[8].to_owned())
        });
        if let Some(dropped) = socket {
            return dropped.parse().expect("a number");
        }
        // While sockets come and go, a read of the list can miss one.
        assert!(begin.elapsed() < PATIENCE, "it does not listen: {sockets}");
    }
}

/// Makes the kernel send the uevent that a disk changed.
fn change(disk: &Path) {
    let name = disk.file_name().expect("a name").to_str().expect("text");
    fs::write(format!("/sys/block/{name}/uevent"), "change").expect("said");
}

#[test]
fn changes_of_dropped_uevents_are_discovered_afterwards() {
    require!();
    let disks = rig(&Spec::loops(4));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let [goes, comes, sick, noisy] = paths[..] else {
        unreachable!("four were asked for")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    let text = format!("[discovery]\nskip = []\ninclude = [{goes:?}, {comes:?}]\n");
    fs::write(&config, text).expect("written");
    disks.vanish(1).expect("pulled");
    let config = config.to_str().expect("text");
    // The next regular check is in an hour.
    let more = ["--config", config, "--interval", "1h", "--rise", "1"];
    let daemon = Daemon::spawn_by(modest(), &[sick], &more);
    daemon.wait_log("paths are watched");
    daemon.wait_state(goes, "up");
    daemon.wait_state(sick, "up");
    disks.set(2, Behaviour::Fail(5)).expect("set");
    let check = ["check-now", sick.to_str().expect("text")];
    assert!(daemon.run(&check).status.success());
    daemon.wait_state(sick, "down");

    daemon.signal(Signal::STOP);
    while dropped(&daemon) == 0 {
        change(noisy);
    }
    let before = dropped(&daemon);
    disks.vanish(0).expect("pulled");
    let file = plain_file(1 << 20);
    attach(comes, file.path());
    let _attached = Attached(comes);
    disks.set(2, Behaviour::Answer).expect("set");
    change(sick);
    assert!(dropped(&daemon) >= before + 3, "all of it was in vain");
    daemon.signal(Signal::CONT);

    daemon.wait_log("uevents were lost");
    daemon.wait_state(comes, "up");
    daemon.wait_state(sick, "up");
    // The removed disk is not watched any more.
    wait_count(&daemon, 2);
    // After that, uevents arrive again.
    disks.set(2, Behaviour::Fail(5)).expect("set");
    assert!(daemon.run(&check).status.success());
    daemon.wait_state(sick, "down");
    disks.set(2, Behaviour::Answer).expect("set");
    change(sick);
    daemon.wait_state(sick, "up");
}
