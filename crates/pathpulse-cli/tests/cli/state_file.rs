//! The state file: events survive a restart, and a bad disk of the file harms nothing else.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Release, Spec, require};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::common::{
    Daemon, PATIENCE, assert_error_line, pathpulse, plain_file, rig, run, stderr, stdout,
};

const STOP_LIMIT: Duration = Duration::from_secs(1);

/// All events of the daemon.
fn events(daemon: &Daemon) -> Vec<Value> {
    let output = daemon.run(&["events", "--format", "json"]);
    let lines = stdout(&output);
    let lines = lines.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("a document")).collect()
}

/// Waits until it has this many events, the first of which are these.
fn wait_events(daemon: &Daemon, count: usize, first: &[Value]) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let all = events(daemon);
        if all.len() >= count && all.starts_with(first) {
            return all;
        }
        assert!(begin.elapsed() < PATIENCE, "{all:#?}");
    }
}

fn stop(daemon: &mut Daemon, signal: Signal) {
    daemon.signal(signal);
    let (_, took) = daemon.wait_end();
    assert!(took < STOP_LIMIT, "{took:?}");
}

#[test]
fn events_from_before_a_restart_come_first() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("events");
    let more = ["--state", state.to_str().expect("text")];
    let mut seen = Vec::new();
    for run in 1..=3 {
        let mut daemon = Daemon::start(&[&file], &more);
        // Each run has one event: the path comes up.
        seen = wait_events(&daemon, run, &seen);
        assert_eq!(seen.len(), run);
        stop(&mut daemon, Signal::TERM);
    }
    // An incomplete line as after a crash, and a bad block.
    let mut bytes = std::fs::read(&state).expect("there");
    let length = bytes.len();
    bytes.truncate(length - 5);
    bytes[20] ^= 1;
    std::fs::write(&state, bytes).expect("written");
    let daemon = Daemon::spawn(&[&file], &more);
    let line = daemon.wait_log("damaged");
    assert!(
        line.contains("2 lines") && line.contains("events"),
        "{line}"
    );
    let left = wait_events(&daemon, 2, &seen[1..2]);
    assert_eq!(left.len(), 2, "one that was whole, and its own: {left:#?}");
}

#[test]
fn the_configuration_names_the_file_and_a_reload_cannot_change_it() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let (state, other) = (folder.path().join("events"), folder.path().join("other"));
    let config = folder.path().join("p.toml");
    let write = |state: &Path| {
        let text = format!("[daemon]\nstate = {state:?}\n");
        std::fs::write(&config, text).expect("written");
    };
    write(&state);
    let name = config.to_str().expect("text");
    let shown = |more: &[&str]| {
        let args = ["config", "show", "--config", name];
        stdout(&run(args.iter().chain(more)))
    };
    let line = |file: &Path| format!("state = {file:?} ");
    let by_file = shown(&[]);
    assert!(by_file.contains(&line(&state)), "{by_file}");
    let by_option = shown(&["--state", other.to_str().expect("text")]);
    assert!(by_option.contains(&line(&other)), "{by_option}");

    let mut command = pathpulse();
    // The configuration wins over the directory of systemd.
    command.env("STATE_DIRECTORY", folder.path().join("systemd"));
    let mut daemon = Daemon::spawn_by(command, &[&file], &["--config", name]);
    wait_events(&daemon, 1, &[]);
    write(&other);
    let reloaded = daemon.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let said = stdout(&reloaded) + &stderr(&reloaded);
    assert!(said.contains("state: the new value takes effect"), "{said}");
    stop(&mut daemon, Signal::TERM);
    let kept = std::fs::read_to_string(&state).expect("there");
    assert!(kept.contains(r#""to":"up""#), "{kept}");
    assert!(!other.exists() && !folder.path().join("systemd").exists());

    std::fs::write(&config, "[daemon]\nstate = 'events'\n").expect("written");
    let bad = run(["config", "check", name]);
    assert!(!bad.status.success());
    assert_error_line(&bad, &[":2:9: state: ", "is not absolute"]);
}

/// Runs the process that writes the file with these lines as its input, and returns its output.
fn run_store(state: &Path, lines: &str) -> String {
    let mut child = pathpulse()
        .arg("keep-events")
        .arg(state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(lines.as_bytes()).expect("read");
    drop(input);
    stdout(&child.wait_with_output().expect("ends"))
}

#[test]
fn paths_failed_in_maps_are_kept_beside_the_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("events");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("there");
    let note = |map: &str, boot: &str| {
        let note = json!({"boot": boot, "map": map, "legs": [[8, 0], [65, 16]]});
        format!("taken {note}")
    };
    let (kept, old) = (note("mpath-a", boot.trim()), note("mpath-b", "another"));
    run_store(&state, &format!("{kept}\n{old}\n"));
    let file = plain_file(1 << 16);
    let config = folder.path().join("p.toml");
    let name = config.to_str().expect("text");
    let write = |more: &str| {
        let text = format!("[daemon]\nstate = {state:?}\n{more}");
        std::fs::write(&config, text).expect("written");
    };
    write("");
    let mut daemon = Daemon::start(&[&file], &["--config", name]);
    wait_events(&daemon, 1, &[]);
    stop(&mut daemon, Signal::TERM);
    let said = run_store(&state, "");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("past {"), "{said}");
    assert_eq!((lines[1], lines[2]), (&*kept, "ready "), "{said}");

    // A daemon that controls maps finds that no map of this host has such paths.
    write("[multipath]\nfail_paths = true\n");
    let mut daemon = Daemon::start(&[&file], &["--config", name]);
    let begin = Instant::now();
    let is_dropped = || {
        let text = std::fs::read_to_string(&state).expect("there");
        let last = text.lines().rfind(|line| line.contains("mpath-a"));
        last.is_none_or(|line| line.contains(r#""legs":[]"#))
    };
    while !is_dropped() {
        assert!(begin.elapsed() < PATIENCE, "the daemon still has it");
    }
    stop(&mut daemon, Signal::TERM);
    let said = run_store(&state, "");
    assert!(!said.contains("taken"), "{said}");
}

#[test]
fn the_state_directory_of_systemd_is_used() {
    let file = plain_file(1 << 16);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = pathpulse();
    command.env("STATE_DIRECTORY", folder.path());
    let mut daemon = Daemon::spawn_by(command, &[&file], &[]);
    wait_events(&daemon, 1, &[]);
    stop(&mut daemon, Signal::TERM);
    let kept = std::fs::read_to_string(folder.path().join("events")).expect("there");
    assert!(kept.contains(r#""to":"up""#), "{kept}");
}

#[test]
fn a_state_file_on_a_hanging_disk_blocks_nobody() {
    require!();
    let disks = rig(&Spec::files(1));
    disks.set(0, Behaviour::Hang).expect("set");
    let state = disks.disk(0).path().to_str().expect("text");
    let file = plain_file(1 << 16);
    let mut daemon = Daemon::start(&[&file], &["--state", state]);
    disks.wait_held(0, 1, PATIENCE).expect("it is being read");
    daemon.wait_state(file.path(), "up");
    assert_eq!(events(&daemon).len(), 1);
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = std::fs::read_to_string(children).expect("it lives");
    let reader = children.trim().parse().expect("one process");
    stop(&mut daemon, Signal::TERM);
    // The process that reads the file stays until the disk answers; it was killed, and writes
    // nothing.
    let reader = rustix::process::Pid::from_raw(reader).expect("a process");
    rustix::process::kill_process(reader, Signal::KILL).expect("it is left");
    disks.set(0, Behaviour::Answer).expect("set");
    disks.release(0, Release::Data).expect("released");
}

#[test]
fn a_full_disk_is_logged_once_and_harms_nothing_else() {
    require!();
    let disks = rig(&Spec::loops(1));
    let path = disks.disk(0).path();
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=4k none \"$0\" && dd if=/dev/zero of=\"$0/fill\" \
        bs=4k count=1 2>/dev/null && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(env!("CARGO_BIN_EXE_pathpulse"));
    let state = folder.path().join("events");
    let more = ["--state", state.to_str().expect("text")];
    let daemon = Daemon::spawn_by(command, &[path], &more);
    let line = daemon.wait_log("kept in memory only");
    assert!(line.contains("No space left"), "{line}");
    for _ in 0..3 {
        daemon.wait_state(path, "up");
        disks.set(0, Behaviour::Fail(5)).expect("set");
        daemon.wait_state(path, "down");
        disks.set(0, Behaviour::Answer).expect("set");
    }
    assert!(wait_events(&daemon, 6, &[]).len() >= 6);
    daemon.signal(Signal::TERM);
    let rest = daemon.log_until_end();
    assert!(
        !rest.iter().any(|line| line.contains("kept in memory")),
        "{rest:#?}"
    );
}

#[test]
fn a_block_device_is_refused_as_a_state_file() {
    require!();
    let disks = rig(&Spec::loops(2));
    let (watched, other) = (disks.disk(0).path(), disks.disk(1).path());
    let before = first_block(other);
    let state = other.to_str().expect("text");
    let daemon = Daemon::spawn(&[watched], &["--state", state]);
    daemon.wait_log("left alone");
    daemon.wait_state(watched, "up");
    drop(daemon);
    assert_eq!(first_block(other), before);
}

fn first_block(disk: &Path) -> Vec<u8> {
    let mut block = vec![0; 4096];
    let mut disk = std::fs::File::open(disk).expect("opened");
    std::io::Read::read_exact(&mut disk, &mut block).expect("read");
    block
}
