//! `pathpulse run`, and the commands that talk to it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use pathpulse_faultdisk::{Behaviour, Disk, Release, Spec, require};
use serde_json::Value;

use super::common::{
    Daemon, PATIENCE, assert_error_line, backend, lines, next_with, pathpulse, plain_file, rig,
    stderr, stdout,
};

const EIO: i32 = 5;

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

/// One HTTP/1.0 exchange.
fn http(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(stream, "{request} HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn the_status_document_has_all_promised_fields() {
    let files = [plain_file(1 << 16), plain_file(1 << 16)];
    let daemon = Daemon::start(&files, &[]);
    let path = daemon.wait_state(files[0].path(), "up");
    let expected = [
        "path",
        "also",
        "device",
        "errno",
        "message",
        "group",
        "state",
        "cause",
        "since",
        "checked_at",
        "verdict_age_ms",
        "overdue",
        "latency_us",
        "nowait",
        "submission",
        "stuck_ms",
        "checks",
        "names",
        "hctl",
        "map",
        "wwid",
        "vendor",
        "model",
        "size_bytes",
        "transport",
        "topology",
    ];
    assert_eq!(keys(&path), BTreeSet::from(expected));
    let parts = [
        "adapter",
        "adapter_port",
        "controller",
        "session",
        "target_port",
    ];
    assert_eq!(keys(&path["topology"]), BTreeSet::from(parts));
    assert_eq!(path["size_bytes"], 1 << 16);
    assert_eq!(
        keys(&path["latency_us"]),
        BTreeSet::from(["last", "max", "p50", "p99"])
    );
    let checks = [
        "busy",
        "failed",
        "good",
        "offline",
        "saturated",
        "short_read",
        "standby",
        "timed_out",
        "total",
        "unknown",
    ];
    assert_eq!(keys(&path["checks"]), BTreeSet::from(checks));
    assert_eq!(
        (&path["cause"], &path["group"]),
        (&"good".into(), &Value::Null)
    );
    let since = path["since"].as_str().expect("text");
    assert!(since.len() == 20 && since.ends_with('Z'), "{since}");
    let status = daemon.status();
    assert_eq!(
        keys(&status),
        BTreeSet::from([
            "backend",
            "clients",
            "held_processes",
            "paths",
            "uptime_s",
            "version",
            "workers"
        ])
    );
    assert_eq!(
        (&status["backend"], &status["workers"]),
        (&backend().into(), &1.into())
    );
}

#[test]
fn the_socket_speaks_http() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let mode = std::fs::metadata(&daemon.socket)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let healthy = http(&daemon.socket, "GET /healthz");
    assert!(
        healthy.starts_with("HTTP/1.0 200") && healthy.ends_with("ok\n"),
        "{healthy}"
    );
    let paths = http(&daemon.socket, "GET /v1/paths");
    let body = paths.split("\r\n\r\n").nth(1).expect("a body");
    let paths: Value = serde_json::from_str(body).expect("a document");
    assert_eq!(paths[0]["path"], file.path().to_str().expect("text"));
    let events = http(&daemon.socket, "GET /v1/events");
    assert!(
        events.contains("text/event-stream") && events.contains("\ndata: {"),
        "{events}"
    );
    assert!(http(&daemon.socket, "GET /v2/status").starts_with("HTTP/1.0 404"));
    assert!(http(&daemon.socket, "GET /v1/stop").starts_with("HTTP/1.0 405"));
}

#[test]
fn a_hanging_disk_goes_down_and_up_with_events() {
    require!();
    let disks = rig(&Spec::loops(3));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let mut daemon = Daemon::start(&paths, &[]);
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    let mut follower = daemon
        .command(&["events", "--follow", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let events = lines(follower.stdout.take().expect("piped"));
    let next = |to: &str| -> Value {
        let line = next_with(&events, &format!(r#""to":"{to}""#));
        serde_json::from_str(&line).expect("a document")
    };
    let first = next("up");
    let fields = [
        "cause", "detail", "device", "errno", "from", "path", "time", "to",
    ];
    assert_eq!(keys(&first), BTreeSet::from(fields));
    assert_eq!(first["from"], "pending", "past events come first");

    disks.set(1, Behaviour::Hang).expect("set");
    let down = next("down");
    assert_eq!(down["path"], paths[1].to_str().expect("text"));
    assert_eq!(
        (&down["cause"], &down["errno"]),
        (&"timed_out".into(), &Value::Null)
    );
    let path = daemon.wait_state(paths[1], "down");
    assert!(path["stuck_ms"].is_u64(), "{path}");
    daemon.wait_log("up -> down (timed_out)");
    let table = stdout(&daemon.run(&["status"]));
    assert!(
        table.starts_with("2 of 3 paths up") && table.contains("timed_out, stuck"),
        "{table}"
    );
    // Output to a pipe is complete.
    let is_whole = |path: &&Path| table.contains(path.to_str().expect("text"));
    assert!(
        table.contains("CHECKS") && paths.iter().all(is_whole),
        "{table}"
    );

    disks.set(2, Behaviour::Fail(EIO)).expect("set");
    let failed = next("down");
    assert_eq!(
        (&failed["path"], &failed["errno"]),
        (&paths[2].to_str().into(), &"EIO".into())
    );

    disks.set(1, Behaviour::Answer).expect("set");
    disks.release(1, Release::Data).expect("released");
    assert_eq!(next("up")["path"], paths[1].to_str().expect("text"));
    assert_eq!(daemon.wait_state(paths[1], "up")["stuck_ms"], Value::Null);

    let stop = daemon.run(&["stop"]);
    assert!(stop.status.success(), "{}", stderr(&stop));
    assert_eq!(daemon.wait_end().0.code(), Some(0));
    assert!(
        follower.wait().expect("ends").success(),
        "the stream ends with the daemon"
    );
    assert!(!daemon.socket.exists());
}

#[test]
fn a_pulled_disk_goes_down_and_the_others_stay_up() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let daemon = Daemon::start(&paths, &[]);
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    disks.vanish(0).expect("pulled");
    daemon.wait_state(paths[0], "down");
    daemon.wait_log("up -> down");
    daemon.wait_state(paths[1], "up");
}

#[test]
fn status_shows_only_the_named_paths() {
    let files = [plain_file(1 << 16), plain_file(1 << 16)];
    let daemon = Daemon::start(&files, &[]);
    let name = files[1].path().to_str().expect("text");
    let one = daemon.run(&["status", "--format", "json", name]);
    let document: Value = serde_json::from_slice(&one.stdout).expect("a document");
    assert_eq!(document["paths"].as_array().expect("a list").len(), 1);
    assert_eq!(document["paths"][0]["path"], name);
    let other = daemon.run(&["status", "/dev/nowhere"]);
    assert_eq!(other.status.code(), Some(1));
    assert_error_line(&other, &["/dev/nowhere", "not watched"]);
}

#[test]
fn without_a_daemon_the_error_tells_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("none.sock");
    for command in ["status", "events", "stop"] {
        let output = pathpulse()
            .arg(command)
            .env("PATHPULSE_SOCKET", &socket)
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(1));
        assert_error_line(&output, &["no daemon at", "none.sock", "pathpulse run"]);
    }
}

#[test]
fn a_daemon_that_does_not_answer_does_not_block_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("mute.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let output = pathpulse()
        .args(["status", "--socket"])
        .arg(&socket)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert_error_line(&output, &["does not answer", "mute.sock"]);
}

#[test]
fn a_frozen_daemon_does_not_block_stop() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.signal(rustix::process::Signal::STOP);
    let stop = daemon.run(&["stop"]);
    assert_eq!(stop.status.code(), Some(1));
    assert_error_line(&stop, &["does not answer", "SIGTERM"]);
    daemon.signal(rustix::process::Signal::CONT);
}

#[test]
fn a_second_daemon_is_refused_and_a_dead_one_is_replaced() {
    let file = plain_file(1 << 16);
    let mut first = Daemon::start(&[&file], &[]);
    let second = |daemon: &Daemon| {
        pathpulse()
            .args(["run", "--log", "error", "--socket"])
            .arg(&daemon.socket)
            .arg(file.path())
            .output()
            .expect("runs")
    };
    let refused = second(&first);
    assert_eq!(refused.status.code(), Some(1));
    let pid = format!("pid {}", first.pid());
    assert_error_line(&refused, &["p.sock", &pid, "--socket"]);
    first.wait_state(file.path(), "up");

    first.signal(rustix::process::Signal::KILL);
    first.wait_end();
    assert!(first.socket.exists(), "it was killed");
    let mut third = pathpulse()
        .args(["run", "--socket"])
        .arg(&first.socket)
        .arg(file.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let log = lines(third.stderr.take().expect("piped"));
    next_with(&log, "paths are watched");
    assert!(first.run(&["stop"]).status.success());
    assert!(third.wait().expect("ends").success());
}

#[test]
fn bad_paths_are_logged_and_the_others_are_watched() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("link");
    symlink(file.path(), &link).expect("a link");
    let paths = [
        file.path(),
        Path::new("/nowhere"),
        Path::new("/dev/null"),
        &link,
    ];
    let daemon = Daemon::spawn(&paths, &[]);
    daemon.wait_log("watching 4 paths");
    let mut log = Vec::new();
    while log
        .last()
        .is_none_or(|line: &String| !line.contains("1 paths are watched, 2 are waited for"))
    {
        log.push(daemon.wait_log(""));
    }
    let log = log.join("\n");
    for part in [
        "not watched yet: /nowhere: open: ENOENT",
        "not watched yet: /dev/null: neither",
        "named twice: it is the same device as",
    ] {
        assert!(log.contains(part), "{log}");
    }
    let is_open = |path: &&Value| path["device"].is_string();
    let status = daemon.status();
    let paths = status["paths"].as_array().expect("a list");
    assert_eq!((paths.len(), paths.iter().filter(is_open).count()), (3, 1));
    let watched = daemon.wait_state(file.path(), "up");
    assert_eq!(watched["also"], serde_json::json!([link]));
    let missing = daemon.wait_state(Path::new("/nowhere"), "pending");
    assert_eq!(
        (&missing["cause"], &missing["device"]),
        (&"not_open".into(), &Value::Null)
    );
    let message = missing["message"].as_str().expect("text");
    assert!(message.contains("ENOENT"), "{message}");
    let table = stdout(&daemon.run(&["status"]));
    assert!(table.contains("/nowhere: open: ENOENT"), "{table}");
}

#[test]
fn a_start_without_any_usable_path_fails() {
    let mut daemon = Daemon::spawn(&[Path::new("/dev/null"), Path::new("/tmp")], &[]);
    daemon.wait_log("/tmp");
    daemon.wait_log("none of the paths can be watched");
    assert_eq!(daemon.wait_end().0.code(), Some(1));
}

#[test]
fn clients_that_do_not_read_block_nobody() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    // More clients than the daemon accepts, none of which reads its answer.
    let mute: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(&daemon.socket).expect("connects");
            let request = b"GET /v1/events?follow=true HTTP/1.1\r\nHost: p\r\n\r\n";
            stream.write_all(request).expect("sent");
            stream
        })
        .collect();
    assert_eq!(
        daemon.status()["paths"].as_array().expect("a list").len(),
        1
    );
    drop(mute);
}

#[test]
fn the_log_names_the_chosen_backend() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::spawn(&[&file], &["--log", "info"]);
    let line = daemon.wait_log(&format!("through {}", backend()));
    assert!(line.contains("watching 1 path"), "{line}");
    let quiet = pathpulse()
        .args(["run", "--log", "shouting", "/dev/null"])
        .output()
        .expect("runs");
    assert_eq!(quiet.status.code(), Some(3));
    assert_error_line(&quiet, &["shouting", "--log"]);
}
