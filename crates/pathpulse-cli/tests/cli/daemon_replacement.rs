//! A dead daemon that the kernel holds because of a pending read does not prevent a new one: the
//! new daemon answers within two seconds of the old one's death.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec, require};
use rustix::process::Signal;
use serde_json::Value;

use super::common::{Daemon, PATIENCE, assert_error_line, pathpulse, plain_file, rig, run, stderr};
use super::metrics::value;
use super::web::Web;

/// Time from the death of a daemon to the first answer of its successor.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(2);
/// With these backends, the kernel holds a process that has a read at a silent device.
const HELD_BACKENDS: [&str; 2] = ["aio", "sync"];

/// Two disks, the first of which is silent; a daemon with a read there; and its TCP address.
fn stuck_daemon(socket: &Path, backend: &str) -> (Rig, Daemon, String) {
    let disks = rig(&Spec::loops(2));
    disks.set(0, Behaviour::Hang).expect("set");
    let daemon = spawn(&disks, socket, &["--backend", backend, "--http", "0"]);
    let Web::Tcp(address) = Web::tcp(&daemon) else {
        unreachable!("it is one");
    };
    daemon.wait_log("paths are watched");
    disks.wait_held(0, 1, PATIENCE).expect("its read is held");
    daemon.wait_state(disks.disk(0).path(), "down");
    (disks, daemon, address)
}

fn spawn(disks: &Rig, socket: &Path, more: &[&str]) -> Daemon {
    let paths = [disks.disk(0).path(), disks.disk(1).path()];
    Daemon::spawn_at(pathpulse(), socket.to_owned(), &paths, more)
}

/// Waits until the daemon answers.
fn wait_answer(daemon: &Daemon) -> Value {
    let begin = Instant::now();
    loop {
        let output = daemon.run(&["status", "--format", "json"]);
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).expect("a document");
        }
        assert!(begin.elapsed() < PATIENCE, "{}", stderr(&output));
    }
}

/// Waits until the status has this many held processes.
fn wait_held(daemon: &Daemon, count: usize) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let status = daemon.status();
        let held = status["held_processes"].as_array().expect("a list");
        if held.len() == count {
            return held.clone();
        }
        assert!(begin.elapsed() < PATIENCE, "{held:?}");
    }
}

/// Waits until a file contains this.
fn wait_text(file: &Path, part: &str) {
    let begin = Instant::now();
    while !fs::read_to_string(file).expect("there").contains(part) {
        assert!(begin.elapsed() < PATIENCE, "{part}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes the silent disk answer, and waits until the dead daemon has ended and its successor knows.
fn release(disks: &Rig, dead: &mut Daemon, successor: &Daemon) {
    disks.set(0, Behaviour::Answer).expect("set");
    let begin = Instant::now();
    while Path::new(&format!("/proc/{}/task", dead.pid())).exists() && !dead.has_ended() {
        disks.release(0, Release::Data).expect("released");
        assert!(begin.elapsed() < PATIENCE, "the kernel holds it still");
    }
    successor.wait_log("the kernel has let the dead daemon go");
    wait_held(successor, 0);
}

#[test]
fn a_killed_daemon_that_the_kernel_holds_is_replaced_and_reported() {
    require!();
    for backend in HELD_BACKENDS {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("p.sock");
        let (disks, mut dead, url) = stuck_daemon(&socket, backend);
        let device = dead.wait_state(disks.disk(0).path(), "down")["device"].clone();
        let lock = folder.path().join("p.sock.lock");
        wait_text(&lock, device.as_str().expect("text"));

        dead.signal(Signal::KILL);
        let begin = Instant::now();
        assert_error_line(&dead.run(&["status"]), &["is dead", "pathpulse run"]);
        let mut successor = spawn(&disks, &socket, &["--backend", backend, "--http", &url]);
        let status = wait_answer(&successor);
        let took = begin.elapsed();
        assert!(took < TAKEOVER_LIMIT, "{backend}: {took:?}");
        assert!(
            !dead.has_ended(),
            "{backend}: the kernel can end it after all"
        );
        let held = status["held_processes"].as_array().expect("a list");
        assert_eq!(held.len(), 1, "{backend}: {held:?}");
        assert_eq!(held[0]["pid"], dead.pid());
        assert_eq!(held[0]["devices"], serde_json::json!([device]));
        let line = successor.wait_log("the kernel holds it until");
        assert!(line.contains(&format!("pid {}", dead.pid())), "{line}");
        let text = successor.run(&["status"]);
        let text = String::from_utf8(text.stdout).expect("text");
        assert!(text.contains(&format!("pid {}", dead.pid())), "{text}");
        let web = Web::socket(&successor);
        let series = "pathpulse_held_processes";
        assert_eq!(value(&web.get("/metrics").body, series), 1.0);
        let doctor: Value = serde_json::from_slice(&run(["doctor", "--format", "json"]).stdout)
            .expect("a document");
        let processes = doctor["held_processes"].as_array().expect("a list");
        assert!(
            processes.iter().any(|held| held["pid"] == dead.pid()),
            "{processes:?}"
        );

        release(&disks, &mut dead, &successor);
        assert_eq!(value(&web.get("/metrics").body, series), 0.0);
        // Now its address is free, and the successor uses it.
        successor.wait_log("metrics and status at http://");
        assert_eq!(Web::Tcp(url.clone()).get("/healthz").status, 200);
        successor.signal(Signal::TERM);
        successor.wait_end();
    }
}

#[test]
fn only_one_of_two_successors_starts() {
    require!();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("p.sock");
    let (disks, mut dead, _) = stuck_daemon(&socket, "sync");
    dead.signal(Signal::KILL);
    let mut both = [(); 2].map(|()| spawn(&disks, &socket, &["--backend", "sync"]));
    let begin = Instant::now();
    let loser = loop {
        if let Some(loser) = both.iter_mut().position(Daemon::has_ended) {
            break loser;
        }
        assert!(begin.elapsed() < PATIENCE, "both run");
        std::thread::sleep(Duration::from_millis(1));
    };
    let [first, second] = both;
    let (mut loser, winner) = match loser {
        0 => (first, second),
        _ => (second, first),
    };
    assert_eq!(loser.wait_end().0.code(), Some(1));
    loser.wait_log("another daemon");
    wait_answer(&winner);
    assert_eq!(wait_held(&winner, 1)[0]["pid"], dead.pid());
    release(&disks, &mut dead, &winner);
}

#[test]
fn after_a_stop_with_a_held_read_another_daemon_gets_all_addresses() {
    require!();
    for backend in HELD_BACKENDS {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("p.sock");
        let (disks, mut dead, url) = stuck_daemon(&socket, backend);
        assert_error_line(&dead.run(&["stop"]), &["has stopped", "kernel holds"]);
        let begin = Instant::now();
        let successor = spawn(&disks, &socket, &["--backend", backend, "--http", &url]);
        wait_answer(&successor);
        assert!(begin.elapsed() < TAKEOVER_LIMIT, "{:?}", begin.elapsed());
        assert_eq!(Web::Tcp(url.clone()).get("/healthz").status, 200);
        assert_eq!(wait_held(&successor, 1)[0]["pid"], dead.pid());
        release(&disks, &mut dead, &successor);
    }
}

#[test]
fn a_daemon_that_is_frozen_for_a_while_keeps_its_socket() {
    let file = plain_file(1 << 16);
    let mut daemon = Daemon::start(&[&file], &[]);
    daemon.signal(Signal::STOP);
    let socket = daemon.socket.to_str().expect("text");
    let second = run([
        "run",
        "--socket",
        socket,
        file.path().to_str().expect("text"),
    ]);
    daemon.signal(Signal::CONT);
    assert_eq!(second.status.code(), Some(1));
    let pid = format!("another daemon (pid {})", daemon.pid());
    assert!(stderr(&second).contains(&pid), "{}", stderr(&second));
    daemon.wait_state(file.path(), "up");
    daemon.signal(Signal::TERM);
    daemon.wait_end();
}

#[test]
fn a_removed_socket_is_created_again() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("run");
    let socket = place.join("p.sock");
    let daemon = Daemon::spawn_at(pathpulse(), socket.clone(), &[&file], &[]);
    daemon.wait_log("paths are watched");
    fs::remove_file(&socket).expect("removed");
    daemon.wait_log("it is there again");
    daemon.wait_state(file.path(), "up");
    // The whole directory with the lock: there is still only one daemon at a time.
    fs::remove_dir_all(&place).expect("removed");
    daemon.wait_log("it is there again");
    daemon.wait_state(file.path(), "up");
    let mut second: Command = pathpulse();
    let second = second
        .arg("run")
        .arg("--socket")
        .arg(&socket)
        .arg(file.path());
    let output = second.output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("another daemon"),
        "{}",
        stderr(&output)
    );
}
