//! Messages to systemd and journald, neither of which can block the daemon.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec, report_skip, require};
use rustix::process::Signal;
use serde_json::json;

use super::common::{Daemon, PATIENCE, pathpulse, plain_file, rig};
use super::held_worker::HeldWorker;
use super::web::Web;

const STOP_LIMIT: Duration = Duration::from_secs(1);

/// A socket that gets the daemon's datagrams.
struct Ear(UnixDatagram);

impl Ear {
    fn at(path: &Path) -> Ear {
        let socket = UnixDatagram::bind(path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Ear(socket)
    }

    fn hear(&self) -> String {
        let mut buffer = vec![0; 1 << 16];
        let length = self.0.recv(&mut buffer).expect("something is said");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for a datagram with this.
    fn wait(&self, part: &str) -> String {
        let begin = Instant::now();
        loop {
            let said = self.hear();
            if said.contains(part) {
                return said;
            }
            assert!(begin.elapsed() < PATIENCE, "{part}: {said}");
        }
    }
}

/// A daemon like that of a unit with this watchdog.
fn notifying(socket: &Path, watchdog: &str) -> Command {
    let mut command = pathpulse();
    command
        .env("NOTIFY_SOCKET", socket)
        .env("WATCHDOG_USEC", watchdog);
    command
}

#[test]
fn systemd_gets_the_state_of_the_daemon() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths = [disks.disk(0).path(), disks.disk(1).path()];
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("notify");
    let ear = Ear::at(&socket);
    let mut daemon = Daemon::spawn_by(notifying(&socket, "400000"), &paths, &[]);
    ear.wait("READY=1");
    ear.wait("STATUS=2 of 2 paths up");
    ear.wait("WATCHDOG=1");
    disks.set(1, Behaviour::Hang).expect("set");
    // A hanging device is no reason to restart the daemon.
    ear.wait("STATUS=1 of 2 paths up, 1 down, 1 reads stuck");
    ear.wait("WATCHDOG=1");
    disks.set(1, Behaviour::Answer).expect("set");
    disks.release(1, Release::Data).expect("released");
    ear.wait("STATUS=2 of 2 paths up");
    daemon.signal(Signal::HUP);
    let reloading = ear.wait("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    ear.wait("READY=1");
    daemon.signal(Signal::TERM);
    ear.wait("STOPPING=1");
    assert_eq!(daemon.wait_end().0.code(), Some(0));
}

#[test]
fn the_watchdog_gets_no_message_while_a_worker_makes_no_progress() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("notify");
    let ear = Ear::at(&socket);
    let daemon = Daemon::spawn_by(notifying(&socket, "400000"), &[&file], &[]);
    ear.wait("READY=1");
    ear.wait("WATCHDOG=1");
    let Some(held) = HeldWorker::first_of(&daemon) else {
        return report_skip("needs strace, to hold one thread up");
    };
    ear.wait("STATUS=worker 0 has not responded for");
    // Otherwise it gets a message every 100 ms.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        let said = ear.hear();
        assert!(said.contains("STATUS=worker 0"), "{said}");
    }
    daemon.wait_log("the watchdog is not fed");
    drop(held);
    ear.wait("WATCHDOG=1");
    daemon.wait_log("responsive again");
}

#[test]
fn a_systemd_that_does_not_read_blocks_nobody() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("notify");
    let _deaf = Ear::at(&socket);
    fill(&socket);
    let mut daemon = Daemon::spawn_by(notifying(&socket, "400000"), &[&file], &[]);
    daemon.wait_log("paths are watched");
    daemon.wait_state(file.path(), "up");
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.wait_end();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_LIMIT, "{took:?}");
}

/// Fills the queue of a socket.
fn fill(socket: &Path) {
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.connect(socket).expect("connects");
    sender.set_nonblocking(true).expect("set");
    loop {
        match sender.send(b"X") {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A command that runs the binary with `folder` as journald's directory and stderr as journald's
/// stream.
fn journaling(folder: &Path) -> Command {
    let script = "mkdir -p /run/systemd/journal && mount --bind \"$0\" /run/systemd/journal && \
        export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(folder)
        .arg(env!("CARGO_BIN_EXE_pathpulse"))
        .env_remove("RUST_LOG");
    command
}

#[test]
fn journald_gets_events_with_fields() {
    require!();
    let disks = rig(&Spec::loops(1));
    let path = disks.disk(0).path();
    let folder = tempfile::tempdir().expect("a folder");
    let ear = Ear::at(&folder.path().join("socket"));
    let daemon = Daemon::spawn_by(journaling(folder.path()), &[path], &[]);
    // This event may come before or after the message that all paths are watched.
    let up = ear.wait("pending -> up");
    assert!(up.contains("PRIORITY=6\n"), "{up}");
    disks.set(0, Behaviour::Fail(5)).expect("set");
    let down = ear.wait("up -> down");
    for field in [
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=pathpulse",
        &format!("PATHPULSE_EVENT_PATH={}", path.display()),
        "PATHPULSE_EVENT_FROM=up",
        "PATHPULSE_EVENT_TO=down",
        "PATHPULSE_EVENT_CAUSE=io_error",
    ] {
        assert!(down.lines().any(|line| line == field), "{field}: {down}");
    }
    let message = down.lines().find(|line| line.starts_with("MESSAGE="));
    let message = message.expect("a message");
    assert!(message.contains("up -> down (io_error)"), "{message}");
    drop(daemon);
}

/// Takes a path down and up `times` times.
fn fall_and_rise(daemon: &Daemon, disks: &Rig, times: usize) {
    let path = disks.disk(0).path();
    for _ in 0..times {
        daemon.wait_state(path, "up");
        disks.set(0, Behaviour::Fail(5)).expect("set");
        daemon.wait_state(path, "down");
        disks.set(0, Behaviour::Answer).expect("set");
    }
    daemon.wait_state(path, "up");
}

#[test]
fn a_hanging_journald_blocks_neither_checks_nor_stop() {
    require!();
    let disks = rig(&Spec::loops(1));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    // With these rules, a path that answers is up, however often it has failed.
    let rules = "[defaults]\nmarginal_errors = 1000\nflaps = 0\nrise = 1\ntimeout = '10s'\n";
    fs::write(&config, rules).expect("written");
    let socket = folder.path().join("socket");
    let ear = Ear::at(&socket);
    fill(&socket);
    let config = config.to_str().expect("text");
    let more = ["--config", config, "--log", "debug", "--interval", "50ms"];
    let command = journaling(folder.path());
    let mut daemon = Daemon::spawn_by(command, &[disks.disk(0).path()], &more);
    let begin = Instant::now();
    while !daemon.run(&["status"]).status.success() {
        assert!(begin.elapsed() < PATIENCE, "it does not start");
    }
    fall_and_rise(&daemon, &disks, 2);
    // Each command logs two lines, which is more than the queue holds.
    let web = Web::socket(&daemon);
    let order = json!({ "paths": [disks.disk(0).path()] }).to_string();
    for _ in 0..2_500 {
        assert_eq!(web.order("POST", "/v1/check-now", &order).status, 200);
    }
    fall_and_rise(&daemon, &disks, 2);
    // When journald reads again, it gets the queue and the number of lost lines.
    let told = ear.wait("log lines were lost: journald did not take them");
    assert!(told.contains("PRIORITY=4\n"), "{told}");
    fill(&socket);
    fall_and_rise(&daemon, &disks, 2);
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.wait_end();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_LIMIT, "{took:?}");
}
