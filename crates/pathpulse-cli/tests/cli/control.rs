//! The commands that control a running daemon, over its real socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::common::{
    Daemon, PATIENCE, assert_error_line, plain_file, public_binary, stderr, stdout,
};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn done(daemon: &Daemon, args: &[&str]) {
    let output = daemon.run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
}

fn names(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status();
    let paths = status["paths"].as_array().expect("a list").iter();
    paths
        .map(|path| path["path"].as_str().expect("text").to_owned())
        .collect()
}

/// A request of a plain HTTP client; returns the answer's status and body.
fn ask(socket: &Path, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let head = format!("{head} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("sent");
    // The daemon may refuse it before it is sent completely.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (
        status.unwrap_or_else(|| panic!("{answer:?}")),
        body.to_owned(),
    )
}

#[test]
fn paths_are_added_paused_resumed_checked_and_removed() {
    let (one, two) = (plain_file(1 << 16), plain_file(1 << 16));
    let daemon = Daemon::start(&[&one], &["--interval", "50ms"]);
    let name = text(two.path());
    done(&daemon, &["add", name, "--group", "mine"]);
    assert_eq!(daemon.wait_state(two.path(), "up")["group"], "mine");
    let again = daemon.run(&["add", name]);
    assert_eq!(again.status.code(), Some(1));
    assert_error_line(&again, &[name, "already"]);

    done(&daemon, &["pause", name]);
    daemon.wait_state(two.path(), "paused");
    daemon.wait_state(one.path(), "up");
    done(&daemon, &["resume", name]);
    daemon.wait_state(two.path(), "up");
    done(&daemon, &["check-now", name, text(one.path())]);

    done(&daemon, &["remove", name]);
    assert_eq!(names(&daemon), [text(one.path())]);
    let events = stdout(&daemon.run(&["events", "--format", "json"]));
    let removed = events.lines().find(|line| line.contains("removed"));
    let removed: Value = serde_json::from_str(removed.expect("an event")).expect("JSON");
    assert_eq!(
        (&removed["path"], &removed["from"], &removed["cause"]),
        (&name.into(), &"up".into(), &"command".into())
    );
    let gone = daemon.run(&["pause", name]);
    assert_eq!(gone.status.code(), Some(1));
    assert_error_line(&gone, &[name, "not watched"]);
}

#[test]
fn check_now_checks_a_path_at_once() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &["--interval", "1h"]);
    let checks = || daemon.wait_state(file.path(), "up")["checks"]["total"].as_u64();
    let before = checks().expect("a number");
    done(&daemon, &["check-now", text(file.path())]);
    // The next regular check is in an hour.
    while checks().expect("a number") == before {}
}

#[test]
fn a_missing_path_is_watched_when_it_appears() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().join("later");
    let daemon = Daemon::start(&[name.as_path()], &[]);
    daemon.wait_state(&name, "pending");
    let added = folder.path().join("added");
    let output = daemon.run(&["add", text(&added)]);
    assert!(output.status.success(), "it is waited for");
    assert_error_line(&output, &["not watched yet", "ENOENT"]);
    symlink(file.path(), &name).expect("a link");
    daemon.wait_log("is there now");
    daemon.wait_state(&name, "up");
    // The same device by another name: the answer says so, and the path is still opened later.
    symlink(file.path(), &added).expect("a link");
    done(&daemon, &["check-now", text(&added)]);
    daemon.wait_log("named twice");
    done(&daemon, &["remove", text(&name)]);
    done(&daemon, &["check-now", text(&added)]);
    daemon.wait_state(&added, "up");
}

/// A daemon with a configuration file that the test can change.
fn configured(file: &Path, config: &str) -> Daemon {
    fs::write(file, config).expect("written");
    Daemon::start::<&Path>(&[], &["--interval", "20ms", "--config", text(file)])
}

#[test]
fn a_reload_applies_only_the_differences() {
    let files = [
        plain_file(1 << 16),
        plain_file(1 << 16),
        plain_file(1 << 16),
    ];
    let [kept, changed, gone] = files.each_ref().map(|file| text(file.path()));
    let new = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let paths = |all: &[&str]| format!("paths = {all:?}\n");
    let daemon = configured(&file, &paths(&[kept, changed, gone]));
    for path in &files {
        daemon.wait_state(path.path(), "up");
    }
    let before = daemon.wait_state(Path::new(kept), "up");
    let two = paths(&[kept, text(new.path())]);
    let one = format!("{two}[daemon]\nworkers = 3\n[[path]]\nname = {changed:?}\nfall = 7\n");
    fs::write(&file, one).expect("written");
    let reload = daemon.run(&["reload"]);
    assert_eq!(
        stdout(&reload),
        "1 paths added, 1 removed, 1 changed, 1 unchanged\n"
    );
    assert!(stderr(&reload).contains("workers: the new value takes effect at the next start"));
    daemon.wait_state(new.path(), "up");
    assert!(!names(&daemon).contains(&gone.to_owned()));
    for path in [kept, changed] {
        let after = daemon.wait_state(Path::new(path), "up");
        assert_eq!(after["since"], before["since"]);
        assert!(after["checks"]["total"].as_u64() >= before["checks"]["total"].as_u64());
    }

    fs::write(&file, "paths = ['nowhere']\nfal = 2\n").expect("written");
    let bad = daemon.run(&["reload"]);
    assert_eq!(bad.status.code(), Some(1));
    let said = stderr(&bad);
    assert!(
        said.contains("p.toml:1:10: ") && said.contains("p.toml:2:1: "),
        "{said}"
    );
    daemon.wait_log("not reloaded");
    daemon.signal(Signal::HUP);
    daemon.wait_log("not reloaded");
    assert_eq!(names(&daemon).len(), 3);
    fs::write(&file, two).expect("written");
    daemon.signal(Signal::HUP);
    daemon.wait_log("reloaded: 0 paths added, 1 removed");
    assert_eq!(names(&daemon).len(), 2);
}

#[test]
fn a_reload_undoes_the_effects_of_commands() {
    let (kept, removed, added) = (
        plain_file(1 << 16),
        plain_file(1 << 16),
        plain_file(1 << 16),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let both = [text(kept.path()), text(removed.path())];
    let daemon = configured(&file, &format!("paths = {both:?}\n"));
    daemon.wait_state(removed.path(), "up");
    done(&daemon, &["remove", text(removed.path())]);
    done(&daemon, &["add", text(added.path())]);
    assert_eq!(
        stdout(&daemon.run(&["reload"])),
        "1 paths added, 0 removed, 0 changed, 2 unchanged\n"
    );
    for path in [&kept, &removed, &added] {
        daemon.wait_state(path.path(), "up");
    }
}

#[test]
fn reload_fails_without_a_configuration_file() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let output = daemon.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert_error_line(&output, &["--config"]);
    daemon.signal(Signal::HUP);
    daemon.wait_log("SIGHUP");
    daemon.wait_log("--config");
    daemon.wait_state(file.path(), "up");
}

#[test]
fn each_path_has_its_own_resource() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[file.path(), Path::new("/nowhere")], &[]);
    daemon.wait_state(file.path(), "up");
    let name = text(file.path());
    for resource in [name.to_owned(), name.replace('/', "%2F")] {
        let (status, body) = ask(&daemon.socket, &format!("GET /v1/paths/{resource}"), b"");
        let document: Value = serde_json::from_str(&body).expect("a document");
        assert_eq!((status, &document["path"]), (200, &name.into()));
    }
    let (status, body) = ask(&daemon.socket, "GET /v1/paths/nowhere", b"");
    assert!(status == 200 && body.contains("not_open"), "{body}");
    assert_eq!(ask(&daemon.socket, "GET /v1/paths/else", b"").0, 404);
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let post = |body: &[u8]| ask(&daemon.socket, "POST /v1/pause", body);
    for (body, part) in [
        (&b"{"[..], "EOF"),
        (b"{\"paths\": []}", "no paths"),
        (b"{\"path\": [\"/dev/sda\"]}", "unknown field"),
        (b"\xff\xff", "body"),
    ] {
        let (status, said) = post(body);
        assert!(status == 400 && said.contains(part), "{status} {said}");
    }
    assert_eq!(post(&vec![b' '; 5 << 20]).0, 413);
    let relative = json!({"paths": [PathBuf::from("sda")]}).to_string();
    let (status, said) = ask(&daemon.socket, "POST /v1/add", relative.as_bytes());
    assert!(status == 200 && said.contains("not absolute"), "{said}");
    assert_eq!(ask(&daemon.socket, "GET /v1/reload", b"").0, 405);
    daemon.wait_state(file.path(), "up");
}

/// The client is in the socket's group, but is neither root nor the daemon's user.
#[test]
fn the_group_of_the_socket_can_read_and_root_can_change() {
    if !rustix::process::geteuid().is_root() {
        return pathpulse_faultdisk::report_skip("only root can be somebody else");
    }
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let (_public, binary) = public_binary();
    for changes in ["root", "group"] {
        let config = folder.path().join(changes);
        let said = format!("[daemon]\nsocket_group = '65533'\nchanges = '{changes}'\n");
        fs::write(&config, said).expect("written");
        let daemon = Daemon::start(&[&file], &["--config", text(&config)]);
        let home = daemon.socket.parent().expect("a folder");
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("set");
        let other = |command: &[&str]| {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--reuid=65534", "--regid=65533", "--clear-groups"]);
            let socket = ["--socket", text(&daemon.socket)];
            setpriv
                .arg(&binary)
                .args(command)
                .args(socket)
                .output()
                .expect("runs")
        };
        assert!(other(&["status"]).status.success());
        let pause = other(&["pause", text(file.path())]);
        if changes == "group" {
            assert!(pause.status.success(), "{}", stderr(&pause));
            daemon.wait_log("POST /v1/pause by user 65534, group 65533");
        } else {
            assert_error_line(&pause, &["user 65534 may only look", "changes ="]);
            daemon.wait_log("refused: user 65534");
            daemon.wait_state(file.path(), "up");
        }
        done(&daemon, &["pause", text(file.path())]);
    }
}
