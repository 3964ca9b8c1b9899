//! Hooks: programs that the daemon runs on events.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Instant;

use pathpulse_faultdisk::{Behaviour, Disk, Spec, require};

use serde_json::json;

use super::common::{Daemon, PATIENCE, pathpulse, plain_file, rig, run, stderr};
use super::metrics::value;
use super::web::Web;

/// Makes a program in this directory.
fn program(folder: &Path, name: &str, script: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
    file.to_str().expect("text").to_owned()
}

/// Waits until a file has this many lines.
fn wait_lines(file: &Path, count: usize) -> String {
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.lines().count() >= count {
            return text;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{count} lines expected: {text:?}"
        );
    }
}

#[test]
fn hooks_get_events_and_a_hanging_hook_blocks_nobody() {
    require!();
    let disks = rig(&Spec::loops(2));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("said");
    let tell = program(
        folder.path(),
        "tell",
        r#"echo "$1 $PATHPULSE_PATH $PATHPULSE_FROM $PATHPULSE_TO $PATHPULSE_CAUSE $PATHPULSE_ERRNO" >> "$2""#,
    );
    let hang = program(folder.path(), "hang", "sleep 600");
    let config = folder.path().join("p.toml");
    let text = format!(
        "[[hook]]\nrun = [{hang:?}]\ntimeout = '200ms'\n\
        [[hook]]\nrun = [{tell:?}, 'a b', {said:?}]\non = ['down', 'up']\nmatch = [{:?}]\n",
        paths[0]
    );
    fs::write(&config, text).expect("written");
    let daemon = Daemon::start(&paths, &["--config", config.to_str().expect("text")]);
    let name = paths[0].display();
    let first = wait_lines(&said, 1);
    assert_eq!(first, format!("a b {name} pending up good \n"));
    disks.set(0, Behaviour::Fail(5)).expect("set");
    disks.set(1, Behaviour::Fail(5)).expect("set");
    let all = wait_lines(&said, 2);
    let last = all.lines().last().expect("a line");
    assert!(
        last.starts_with(&format!("a b {name} up down ")) && last.ends_with(" EIO"),
        "{last}"
    );
    daemon.wait_log("hang for");
    daemon.wait_log("killed after 200ms");
    daemon.wait_state(paths[1], "down");
}

#[test]
fn hooks_do_not_inherit_variables_of_the_service_manager() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("said");
    let tell = program(folder.path(), "tell", r#"env > "$1.new"; mv "$1.new" "$1""#);
    let config = folder.path().join("p.toml");
    let text = format!("[[hook]]\nrun = [{tell:?}, {said:?}]\non = ['up']\n");
    fs::write(&config, text).expect("written");
    let manager = UnixDatagram::bind(folder.path().join("notify")).expect("bound");
    let mut command = pathpulse();
    command
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("STATE_DIRECTORY", folder.path());
    let names = [
        "FDSTORE",
        "JOURNAL_STREAM",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    for name in names {
        command.env(name, "1");
    }
    let config = config.to_str().expect("text");
    let _daemon = Daemon::spawn_by(command, &[&file], &["--config", config]);
    let told = wait_lines(&said, 1);
    let has = |name: &str| {
        let mut lines = told.lines();
        lines.any(|line| line.split('=').next() == Some(name))
    };
    for name in names.into_iter().chain(["NOTIFY_SOCKET"]) {
        assert!(!has(name), "{name} in {told}");
    }
    for name in ["PATH", "PATHPULSE_PATH", "STATE_DIRECTORY"] {
        assert!(has(name), "{name} in {told}");
    }
    drop(manager);
}

#[test]
fn events_without_a_free_hook_are_counted() {
    let files: Vec<_> = (0..32).map(|_| plain_file(1 << 16)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    // Each program runs until the test ends.
    let wait = r#"while [ -d "$1" ]; do sleep 0.05; done"#;
    let wait = program(folder.path(), "wait", wait);
    let config = folder.path().join("p.toml");
    let text = format!(
        "[[hook]]\nrun = [{wait:?}, {:?}]\ntimeout = '1h'\n",
        folder.path()
    );
    fs::write(&config, text).expect("written");
    let config = config.to_str().expect("text");
    let daemon = Daemon::start(&files, &["--config", config]);
    let web = Web::socket(&daemon);
    let lost = || value(&web.get("/metrics").body, "pathpulse_hooks_lost_total");
    assert_eq!(lost(), 0.0);
    let paths = files
        .iter()
        .map(|file| file.path().to_str().expect("text").to_owned());
    let all = json!({"paths": paths.collect::<Vec<_>>()}).to_string();
    let begin = Instant::now();
    while lost() == 0.0 {
        assert!(begin.elapsed() < PATIENCE, "32 events each time");
        for action in ["pause", "resume"] {
            let answer = web.order("POST", &format!("/v1/{action}"), &all);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    daemon.wait_log("programs are not run on some events");
}

#[test]
fn a_hook_that_cannot_be_run_is_an_error_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let text = "[[hook]]\nrun = ['notify']\non = ['broken']\n[[hook]]\non = []\n";
    fs::write(&file, text).expect("written");
    let output = run(["config", "check", file.to_str().expect("text")]);
    let said = stderr(&output);
    for part in [
        ":1:1: ",
        "must begin with a slash",
        ":3:7: on: invalid state `broken`",
        ":4:1: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
