//! Devices are free after `check`, `pause`, `remove` and `stop` have returned.

use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Release, Spec, report_skip, require};

use super::common::{Daemon, pathpulse, rig, stderr};
use super::mounts::Mounted;

/// A command stops waiting for the release of a device after half a second.
const IN_TIME: Duration = Duration::from_secs(10);

fn backends() -> Vec<String> {
    match std::env::var("PATHPULSE_BACKEND") {
        Ok(forced) if forced != "auto" => vec![forced],
        _ => ["io_uring", "aio", "sync"].map(str::to_owned).into(),
    }
}

#[test]
fn a_device_is_free_after_check_pause_remove_and_stop() {
    require!();
    let disks = rig(&Spec::loops(1));
    let disk = disks.disk(0).path();
    let Some(mounted) = Mounted::on(disk) else {
        return report_skip("needs mkfs.ext4 and the file system");
    };
    let file = mounted.file();
    let name = file.to_str().expect("text");
    for backend in backends() {
        for round in 0..5 {
            let check = pathpulse()
                .args(["check", "--backend", &backend, name])
                .output()
                .expect("runs");
            assert!(check.status.success(), "{}", stderr(&check));
            assert!(mounted.is_free(disk), "{backend}: check {round}");
        }
        let mut daemon = Daemon::start(&[&file], &["--backend", &backend]);
        for round in 0..3 {
            daemon.wait_state(&file, "up");
            assert!(!mounted.is_free(disk), "it is watched");
            let pause = daemon.run(&["pause", name]);
            assert!(pause.status.success(), "{}", stderr(&pause));
            assert_eq!(stderr(&pause), "");
            assert!(mounted.is_free(disk), "{backend}: pause {round}");
            daemon.wait_state(&file, "paused");
            assert!(daemon.run(&["resume", name]).status.success());
        }
        daemon.wait_state(&file, "up");
        assert!(daemon.run(&["remove", name]).status.success());
        assert!(mounted.is_free(disk), "{backend}: remove");
        assert!(daemon.run(&["add", name]).status.success());
        daemon.wait_state(&file, "up");
        assert!(daemon.run(&["stop"]).status.success());
        assert!(mounted.is_free(disk), "{backend}: stop");
        daemon.wait_end();
    }
}

#[test]
fn a_device_with_a_pending_read_is_reported_and_reopened_by_resume() {
    require!();
    let disks = rig(&Spec::loops(2));
    let [hung, other] = [0, 1].map(|disk| disks.disk(disk).path().to_owned());
    let daemon = Daemon::start(&[&hung, &other], &[]);
    daemon.wait_state(&hung, "up");
    daemon.wait_state(&other, "up");
    disks.set(0, Behaviour::Hang).expect("set");
    daemon.wait_state(&hung, "down");
    let begin = Instant::now();
    let names = [&hung, &other].map(|path| path.to_str().expect("text"));
    let pause = daemon.run(&["pause", names[0], names[1]]);
    assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
    assert!(pause.status.success());
    let said = stderr(&pause);
    let held = format!("{}: the kernel still holds its device", names[0]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&held), "{said}");
    // It has only one of our reads, however often the path is paused and resumed.
    assert!(daemon.run(&["resume", names[0]]).status.success());
    daemon.wait_state(&hung, "down");
    assert_eq!(disks.held(0).expect("known"), 1);
    disks.recover(0).expect("recovers");
    disks.release(0, Release::Data).expect("released");
    daemon.wait_state(&hung, "up");
    assert!(daemon.run(&["resume", names[1]]).status.success());
    daemon.wait_state(&other, "up");
}

#[test]
fn a_resumed_path_that_does_not_open_comes_up_when_it_does() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let [name, away] = ["canary", "away"].map(|name| folder.path().join(name));
    std::fs::write(&name, vec![0xA5_u8; 1 << 16]).expect("written");
    let opened = std::fs::File::open(&name).expect("there");
    opened.sync_all().expect("synced");
    let daemon = Daemon::start(&[&name], &[]);
    daemon.wait_state(&name, "up");
    let text = name.to_str().expect("text");
    assert!(daemon.run(&["pause", text]).status.success());
    std::fs::rename(&name, &away).expect("renamed");
    assert!(daemon.run(&["resume", text]).status.success());
    daemon.wait_log("could not be opened anew");
    daemon.wait_state(&name, "pending");
    std::fs::rename(&away, &name).expect("renamed");
    daemon.wait_state(&name, "up");
}
