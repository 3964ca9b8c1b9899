//! What is asked of a daemon while its disks misbehave: neither reloads nor clients touch the checks.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Disk, Release, Rig, Spec, require};
use serde_json::{Value, json};

use super::common::{Daemon, PATIENCE, rig};

const INTERVAL: Duration = Duration::from_millis(200);

fn ask(socket: &Path, head: &str, body: &str) -> Value {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let length = body.len();
    let request = format!("{head} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Checks of these paths so far, and when that was so.
fn totals(socket: &Path, paths: &[PathBuf]) -> (Instant, Vec<u64>) {
    let status = ask(socket, "GET /v1/status", "");
    let all = status["paths"].as_array().expect("a list");
    let total = |path: &PathBuf| {
        let name = path.to_str().expect("text");
        let its = all.iter().find(|p| p["path"] == name).expect("watched");
        its["checks"]["total"].as_u64().expect("a number")
    };
    (Instant::now(), paths.iter().map(total).collect())
}

/// Entries of a folder of the daemon's in /proc.
fn count(daemon: &Daemon, what: &str) -> usize {
    let folder = format!("/proc/{}/{what}", daemon.pid());
    fs::read_dir(folder).expect("it runs").count()
}

/// Files that take O_DIRECT, in one folder.
fn files(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let paths: Vec<PathBuf> = (0..count)
        .map(|number| folder.path().join(format!("{number:03}")))
        .collect();
    for path in &paths {
        let file = fs::File::create(path).expect("made");
        (&file).write_all(&[0xA5; 8192]).expect("written");
        // Dirty pages make the kernel answer EAGAIN.
        file.sync_all().expect("synced");
    }
    (folder, paths)
}

/// Waits until a path is in this state.
fn wait_state(socket: &Path, path: &Path, state: &str) {
    let begin = Instant::now();
    loop {
        let now = ask(socket, &format!("GET /v1/paths{}", path.display()), "");
        if now["state"] == state {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{state} expected: {now}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A rig disk goes through its misfortunes, and each has to be told while the daemon reloads.
fn torment(disks: &Rig, disk: usize, socket: &Path) {
    let path = disks.disks()[disk].path();
    disks.set(disk, Behaviour::Fail(5)).expect("set");
    wait_state(socket, path, "down");
    disks.set(disk, Behaviour::Answer).expect("set");
    wait_state(socket, path, "up");
    disks.set(disk, Behaviour::Hang).expect("set");
    wait_state(socket, path, "down");
    disks.set(disk, Behaviour::Answer).expect("set");
    disks.release(disk, Release::Data).expect("released");
    wait_state(socket, path, "up");
}

#[test]
fn a_thousand_reloads_lose_no_verdict_and_check_nothing_twice() {
    require!();
    let disks = rig(&Spec::loops(20));
    let (folder, plain) = files(480);
    let file = folder.path().join("p.toml");
    let rigged = disks.disks().iter().map(Disk::path);
    let all: Vec<&Path> = rigged.chain(plain.iter().map(PathBuf::as_path)).collect();
    // By turns: all paths; all but ten, and ten others with other rules.
    let whole = format!("paths = {all:?}\n");
    let (kept, gone) = all.split_at(490);
    let mut less = format!("paths = {kept:?}\n");
    for path in &kept[480..] {
        less += &format!("[[path]]\nname = {path:?}\nfall = 3\ngroup = 'other'\n");
    }
    assert_eq!(gone.len(), 10);
    fs::write(&file, &whole).expect("written");
    let config = ["--config", file.to_str().expect("text")];
    let pace = ["--interval", "200ms", "--timeout", "500ms", "--rise", "1"];
    let daemon = Daemon::start::<&Path>(&[], &[&config[..], &pace].concat());
    let calm = &plain[..400];
    for path in calm {
        daemon.wait_state(path, "up");
    }
    let socket = daemon.socket.as_path();
    let settled = (count(&daemon, "fd"), count(&daemon, "task"));
    let (begin, before) = totals(&daemon.socket, calm);
    let other = |reloads: usize| {
        if reloads.is_multiple_of(2) {
            &less
        } else {
            &whole
        }
    };
    thread::scope(|scope| {
        let tormented = scope.spawn(|| {
            for round in 0..20 {
                torment(&disks, round, socket);
            }
        });
        for reloads in 0..1_000 {
            // In one step, as editors do: a half-written file is another file.
            let new = folder.path().join("new");
            fs::write(&new, other(reloads)).expect("written");
            fs::rename(&new, &file).expect("replaced");
            let done = ask(&daemon.socket, "POST /v1/reload", "");
            let expected = match reloads % 2 {
                0 => {
                    json!({"added": 0, "removed": 10, "changed": 10, "unchanged": 480, "remarks": []})
                }
                _ => {
                    json!({"added": 10, "removed": 0, "changed": 10, "unchanged": 480, "remarks": []})
                }
            };
            assert_eq!(done, expected, "reload {reloads}");
        }
        tormented.join().expect("every misfortune was told");
    });
    let (end, after) = totals(&daemon.socket, calm);
    let slots = (end - begin).as_millis() / INTERVAL.as_millis();
    for ((path, before), after) in calm.iter().zip(before).zip(after) {
        let checks = u128::from(after - before);
        // One begun before the first look, one in the slot of the last.
        assert!(
            checks <= slots + 2,
            "{path:?}: {checks} checks in {slots} slots"
        );
        assert!(
            checks >= slots / 4,
            "{path:?}: {checks} checks in {slots} slots"
        );
    }
    // What was opened for paths that left again is closed, by threads that end.
    let begin = Instant::now();
    while (count(&daemon, "fd"), count(&daemon, "task")) > settled {
        let now = (count(&daemon, "fd"), count(&daemon, "task"));
        assert!(begin.elapsed() < PATIENCE, "{settled:?} became {now:?}");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(totals(&daemon.socket, &plain).1.len(), 480);
}

/// How many checks of these paths there are in this time.
fn pace(socket: &Path, paths: &[PathBuf], time: Duration) -> u64 {
    let before: u64 = totals(socket, paths).1.iter().sum();
    thread::sleep(time);
    let after: u64 = totals(socket, paths).1.iter().sum();
    after - before
}

#[test]
fn clients_that_stream_or_stand_still_do_not_change_the_pace() {
    const TIME: Duration = Duration::from_secs(2);
    let (_folder, all) = files(120);
    let daemon = Daemon::start(&all, &["--interval", "50ms"]);
    let (calm, restless) = all.split_at(20);
    for path in &all {
        daemon.wait_state(path, "up");
    }
    let undisturbed = pace(&daemon.socket, calm, TIME);
    let request = b"GET /v1/events?follow=true HTTP/1.1\r\nHost: p\r\n\r\n";
    let clients: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(&daemon.socket).expect("connects");
            stream.write_all(request).expect("sent");
            stream
        })
        .collect();
    // Half of them read; the others stand still with their sockets full.
    let (reading, _still) = clients.split_at(100);
    let readers: Vec<_> = reading
        .iter()
        .map(|stream| {
            let mut stream = stream.try_clone().expect("a clone");
            thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()))
        })
        .collect();
    let body = json!({ "paths": restless }).to_string();
    let socket = daemon.socket.as_path();
    let disturbed = thread::scope(|scope| {
        let measured = scope.spawn(|| pace(socket, calm, TIME));
        let mut rounds = 0;
        while !measured.is_finished() {
            for command in ["POST /v1/pause", "POST /v1/resume"] {
                ask(&daemon.socket, command, &body);
                rounds += 1;
            }
        }
        assert!(rounds > 4, "{rounds} rounds of 100 events");
        measured.join().expect("measured")
    });
    // A noisy machine costs some; being held up by one client that stands still would cost all.
    assert!(
        disturbed * 2 > undisturbed,
        "{disturbed} checks instead of {undisturbed}"
    );
    let here = ask(&daemon.socket, "GET /v1/status", "")["clients"]["here"].as_u64();
    assert!(here.is_some_and(|here| here > 100), "{here:?}");
    drop(clients);
    drop(daemon);
    drop(readers);
}
