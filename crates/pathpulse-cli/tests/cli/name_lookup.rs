//! Names that the daemon must look up: links, directories, and names on a file system that hangs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Spec, report_skip, require};
use serde_json::Value;

use super::common::{Daemon, PATIENCE, assert_error_line, plain_file, rig, run, stderr, stdout};
use super::mounts::{HungMount, Mounted};
use super::names::{command, names};
use super::web::Web;

/// Looking up a name takes at most a second, and the rest of a command is fast.
const LOOK_UP: Duration = Duration::from_secs(10);

#[test]
fn a_name_on_a_file_system_that_hangs_blocks_no_command() {
    require!();
    let file = plain_file(1 << 16);
    let hung = HungMount::start();
    let name = hung.path().join("canary");
    let daemon = Daemon::spawn(&[file.path(), &name], &[]);
    daemon.wait_log("pending -> up");
    daemon.wait_state(file.path(), "up");
    let begin = Instant::now();
    // It is on the watchlist, so nobody looks it up.
    for word in ["status", "check-now"] {
        let said = command(&daemon, word, &name);
        assert!(said.status.success(), "{word}: {}", stderr(&said));
    }
    let pause = command(&daemon, "pause", &name);
    assert_error_line(&pause, &["canary", "not watched yet"]);
    let remove = command(&daemon, "remove", &name);
    assert!(remove.status.success(), "{}", stderr(&remove));
    assert_eq!(names(&daemon).len(), 1);
    // It is not on the watchlist any more, and the commands say so in time.
    for word in ["status", "remove", "pause", "check-now"] {
        let said = command(&daemon, word, &name);
        assert_eq!(said.status.code(), Some(1), "{word}");
        assert_error_line(&said, &["canary", "not watched", "does not answer"]);
    }
    assert!(begin.elapsed() < LOOK_UP, "{:?}", begin.elapsed());
    let web = Web::socket(&daemon);
    let livez = web.livez(&name, "300ms");
    assert_eq!(livez.status, 503, "{livez:?}");
    assert!(livez.body.contains("could not be looked up"), "{livez:?}");
    assert!(livez.took < LOOK_UP, "{livez:?}");
    // Requests about other paths are answered meanwhile.
    assert_eq!(web.livez(file.path(), "300ms").status, 200);
    // A single check keeps its timeout, and gives no verdict on a device.
    let begin = Instant::now();
    let args = ["check", "--timeout", "300ms"].map(OsString::from);
    let check = run(args.into_iter().chain([name.into_os_string()]));
    assert!(begin.elapsed() < LOOK_UP, "{:?}", begin.elapsed());
    assert!(
        stdout(&check).contains("open did not return in time"),
        "{}",
        stdout(&check)
    );
}

#[test]
fn livez_answers_for_links_and_for_paths_that_are_not_open_yet() {
    require!();
    let disks = rig(&Spec::loops(1));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (link, missing) = (folder.path().join("link"), folder.path().join("missing"));
    symlink(disks.disk(0).path(), &link).expect("a link");
    let daemon = Daemon::spawn(&[disks.disk(0).path(), &missing], &[]);
    daemon.wait_log("pending -> up");
    daemon.wait_state(disks.disk(0).path(), "up");
    let web = Web::socket(&daemon);
    let waiting = web.livez(&missing, "1s");
    assert_eq!(waiting.status, 503, "{waiting:?}");
    assert!(
        waiting.body.contains("is not open: open: ENOENT"),
        "{waiting:?}"
    );
    let other = web.livez(&link, "1s");
    assert_eq!(other.status, 200, "{other:?}");
    let disk = disks.disk(0).path().to_str().expect("text");
    assert!(
        other
            .body
            .contains(&format!("link is {disk}, which answers")),
        "{other:?}"
    );
    assert_eq!(web.livez(&folder.path().join("nothing"), "1s").status, 404);
    disks.set(0, Behaviour::Hang).expect("set");
    let other = web.livez(&link, "300ms");
    assert_eq!(other.status, 503, "{other:?}");
    disks.recover(0).expect("recovers");
}

#[test]
fn livez_of_a_directory_is_about_the_disk_below_it() {
    require!();
    let disks = rig(&Spec::loops(1));
    let disk = disks.disk(0).path();
    let Some(mounted) = Mounted::on(disk) else {
        return report_skip("needs mkfs.ext4 and the file system");
    };
    let data = mounted.path().join("data");
    fs::create_dir(&data).expect("a folder");
    rustix::fs::sync();
    let daemon = Daemon::start(&[disk], &[]);
    daemon.wait_state(disk, "up");
    let web = Web::socket(&daemon);
    for name in [mounted.path(), &data] {
        let answer = web.livez(name, "1s");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    disks.set(0, Behaviour::Hang).expect("set");
    let answer = web.livez(&data, "300ms");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.body.contains(disk.to_str().expect("text")),
        "{answer:?}"
    );
    disks.recover(0).expect("recovers");
}

/// Number of threads of the daemon that open files or collect the results.
fn opening_threads(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let names = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("pathpulse-open"))
        .count()
}

#[test]
fn an_open_that_hangs_occupies_one_thread_only() {
    require!();
    let file = plain_file(1 << 16);
    let hung = HungMount::start();
    let name = hung.path().join("canary");
    let daemon = Daemon::spawn(&[file.path(), &name], &[]);
    daemon.wait_log("pending -> up");
    let begin = Instant::now();
    while opening_threads(&daemon) == 0 {
        assert!(begin.elapsed() < PATIENCE, "nothing is opened");
    }
    // The thread that hangs, one for other paths, and one that waits for both.
    for _ in 0..4 {
        for word in ["remove", "add", "check-now"] {
            let said = command(&daemon, word, &name);
            assert!(said.status.success(), "{word}: {}", stderr(&said));
        }
        assert!(
            opening_threads(&daemon) <= 3,
            "{}",
            opening_threads(&daemon)
        );
    }
    // When it returns, the name is opened for the last request.
    drop(hung);
    fs::create_dir_all(name.parent().expect("a folder")).expect("made");
    daemon.wait_log("open: ENO");
    assert_eq!(names(&daemon).len(), 2);
    let _ = fs::remove_dir(name.parent().expect("a folder"));
}

#[test]
fn check_of_a_directory_reads_the_devices_below_it() {
    require!();
    let disks = rig(&Spec::loops(1));
    let disk = disks.disk(0).path();
    let Some(mounted) = Mounted::on(disk) else {
        return report_skip("no mkfs.ext4");
    };
    let folder = mounted.path().join("lost+found");
    let folder = folder.to_str().expect("text");
    let check = |names: &[&str]| {
        let output = run(["check", "--format", "json"].iter().chain(names));
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        (output.status.code(), document["paths"].clone())
    };
    let device = disk.to_str().expect("text");
    let (status, all) = check(&[folder, device]);
    assert_eq!(status, Some(0), "{all}");
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    assert_eq!(all[0]["path"], device);
    assert_eq!(all[0]["under"], serde_json::json!([folder]));
    disks.set(0, Behaviour::Fail(libc::EIO)).expect("set");
    let (status, all) = check(&[folder]);
    assert_eq!(
        (status, &all[0]["state"]),
        (Some(2), &"down".into()),
        "{all}"
    );
    disks.recover(0).expect("recovered");
    let table = run(["check", folder]);
    assert!(stdout(&table).contains("under /"), "{}", stdout(&table));
    let doctor = run(["doctor", "--format", "json", folder]);
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("a document");
    assert_eq!(doctor["paths"][0]["under"], serde_json::json!([folder]));
    // A directory without a device is reported as such.
    let (status, all) = check(&["/sys"]);
    assert_eq!(status, Some(3));
    let message = all[0]["message"].as_str().expect("text");
    assert!(
        message.contains("on sysfs") && message.contains("name a device"),
        "{message}"
    );
}
