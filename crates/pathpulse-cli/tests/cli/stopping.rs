//! Stops the daemon in every phase, whatever its disks and clients do. It ends within one second of
//! SIGTERM and 100 ms of SIGKILL. If the kernel holds a process with stuck reads, all its threads
//! stop within that time.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Disk, Load, Rig, Spec, require};
use rustix::process::Signal;

use super::common::{
    Daemon, PATIENCE, assert_error_line, lines, next_with, pathpulse, plain_file, rig,
    stuck_reads_let_go,
};

const STOP_LIMIT: Duration = Duration::from_secs(1);
const KILL_LIMIT: Duration = Duration::from_millis(100);

/// 104 disks: 100 hang, 2 hang with all tags busy, 2 answer.
fn sick_disks() -> Rig {
    let disks = rig(&Spec::loops(104));
    let hang: Vec<_> = (0..100).map(|disk| (disk, Behaviour::Hang)).collect();
    disks.set_many(&hang).expect("set");
    disks.saturate(100, Load::Dead).expect("saturated");
    disks.saturate(101, Load::Dead).expect("saturated");
    disks
}

fn paths(disks: &Rig) -> Vec<&Path> {
    disks.disks().iter().map(Disk::path).collect()
}

/// A daemon with 100 hanging reads.
fn stuck_daemon(disks: &Rig) -> Daemon {
    let daemon = Daemon::start(&paths(disks), &[]);
    for disk in 0..100 {
        disks
            .wait_held(disk, 1, PATIENCE)
            .expect("its read is held");
    }
    daemon
}

/// The indexes of the silent disks.
fn first(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// Sends a signal, and checks that the daemon ends cleanly, in time, and completely.
fn assert_stops(daemon: &mut Daemon, signal: Signal, disks: &Rig, silent: &[usize]) {
    let pid = daemon.pid();
    let (status, took) = daemon.end_by(signal, disks, silent);
    if signal == Signal::KILL {
        assert!(took < KILL_LIMIT, "{took:?}");
    } else {
        assert!(took < STOP_LIMIT, "{took:?}");
        assert_eq!(status.code(), Some(0));
        assert!(!daemon.socket.exists(), "nobody else is to knock there");
    }
    let task = format!("/proc/{pid}/task");
    assert!(fs::read_dir(task).is_err(), "threads are left");
}

#[test]
fn sigterm_while_100_reads_hang_and_tags_are_busy() {
    require!();
    let disks = sick_disks();
    let mut daemon = stuck_daemon(&disks);
    daemon.wait_state(disks.disk(101).path(), "down");
    assert_stops(&mut daemon, Signal::TERM, &disks, &first(100));
    let line = daemon.wait_log("the kernel still holds");
    assert!(line.contains("holds 100 read"), "{line}");
}

#[test]
fn sigkill_while_100_reads_hang_and_tags_are_busy() {
    require!();
    let disks = sick_disks();
    let mut daemon = stuck_daemon(&disks);
    daemon.wait_state(disks.disk(101).path(), "down");
    assert_stops(&mut daemon, Signal::KILL, &disks, &first(100));
}

#[test]
fn stop_while_100_reads_hang_waits_for_the_end() {
    require!();
    let disks = sick_disks();
    let mut daemon = stuck_daemon(&disks);
    let begin = Instant::now();
    let output = daemon.run(&["stop"]);
    let took = begin.elapsed();
    if !stuck_reads_let_go() {
        assert_eq!(output.status.code(), Some(1));
        let pid = format!("pid {}", daemon.pid());
        assert_error_line(&output, &["has stopped", "kernel holds", &pid]);
        assert!(!daemon.socket.exists(), "nobody else is to knock there");
        let status = daemon.end_released(&disks, &first(100));
        assert_eq!(status.code(), Some(0));
        return;
    }
    assert!(
        output.status.success() && took < Duration::from_secs(2),
        "{took:?}"
    );
    let (status, more) = daemon.wait_end();
    assert_eq!(status.code(), Some(0));
    assert!(more < KILL_LIMIT, "it was said to be gone: {more:?}");
}

/// Files without RWF_NOWAIT: a thread of the kernel makes each read.
#[test]
fn signals_while_reads_without_nowait_hang() {
    require!();
    for signal in [Signal::TERM, Signal::KILL] {
        let disks = rig(&Spec::files(65));
        let hang: Vec<_> = (0..64).map(|disk| (disk, Behaviour::Hang)).collect();
        disks.set_many(&hang).expect("set");
        let mut daemon = Daemon::start(&paths(&disks), &[]);
        for disk in 0..64 {
            disks
                .wait_held(disk, 1, PATIENCE)
                .expect("its read is held");
        }
        daemon.wait_state(disks.disk(64).path(), "up");
        assert_stops(&mut daemon, signal, &disks, &first(64));
    }
}

/// Early in its start, a signal kills the daemon; later, it stops the daemon.
#[test]
fn signals_in_every_phase_of_the_start() {
    require!();
    let disks = sick_disks();
    let paths = paths(&disks);
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        for delay_ms in [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 130, 200, 350, 600] {
            let mut daemon = Daemon::spawn(&paths, &[]);
            // The test is about all moments of the start, most of which have no event.
            std::thread::sleep(Duration::from_millis(delay_ms));
            let (_, took) = daemon.end_by(signal, &disks, &first(100));
            let limit = if signal == Signal::KILL {
                KILL_LIMIT
            } else {
                STOP_LIMIT
            };
            assert!(took < limit, "{signal:?} after {delay_ms} ms: {took:?}");
        }
    }
}

#[test]
fn sigterm_while_clients_stream_and_do_not_read() {
    require!();
    let disks = sick_disks();
    let mut daemon = stuck_daemon(&disks);
    let clients: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(&daemon.socket).expect("connects");
            let request = b"GET /v1/events?follow=true HTTP/1.1\r\nHost: p\r\n\r\n";
            stream.write_all(request).expect("sent");
            stream
        })
        .collect();
    // This client is served, and so are the ones above.
    daemon.status();
    assert_stops(&mut daemon, Signal::TERM, &disks, &first(100));
    drop(clients);
}

/// A daemon whose stderr is a full pipe.
fn unheard_daemon(socket: &Path, paths: &[&Path]) -> (Child, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("made small");
    (&writer).write_all(&[b'x'; 4096]).expect("filled");
    let child = pathpulse()
        .args([
            "run",
            "--log",
            "trace",
            "--interval",
            "20ms",
            "--timeout",
            "50ms",
            "--socket",
        ])
        .arg(socket)
        .args(paths)
        .stderr(Stdio::from(writer))
        .spawn()
        .expect("starts");
    (child, reader)
}

#[test]
fn a_full_stderr_blocks_neither_checks_nor_stop() {
    require!();
    let disks = rig(&Spec::loops(3));
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("p.sock");
    let (mut child, _reader) = unheard_daemon(&socket, &paths(&disks));
    let status = |wanted: &str| {
        let begin = Instant::now();
        loop {
            let output = pathpulse()
                .arg("status")
                .arg("--socket")
                .arg(&socket)
                .output();
            let text = String::from_utf8(output.expect("runs").stdout).expect("text");
            if text.starts_with(wanted) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{wanted}: {text}");
        }
    };
    status("3 of 3 paths up");
    for _ in 0..3 {
        disks.set(0, Behaviour::Hang).expect("set");
        status("2 of 3 paths up");
        disks.recover(0).expect("released");
        disks.set(1, Behaviour::Fail(5)).expect("set");
        disks.set(1, Behaviour::Answer).expect("set");
        status("3 of 3 paths up");
    }
    let begin = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("it is there");
    let ended = child.wait().expect("ends");
    let took = begin.elapsed();
    assert!(
        took < STOP_LIMIT && ended.code() == Some(0),
        "{took:?} {ended}"
    );
}

#[test]
fn a_failed_start_with_a_full_stderr_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("p.sock");
    let (mut child, _reader) = unheard_daemon(&socket, &[Path::new("/dev/null")]);
    assert_eq!(child.wait().expect("ends").code(), Some(1));
}

#[test]
fn the_second_signal_ends_the_daemon_at_once() {
    require!();
    let disks = sick_disks();
    let mut daemon = stuck_daemon(&disks);
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.end_by(Signal::INT, &disks, &first(100));
    assert!(took < STOP_LIMIT, "{took:?}");
    // The first signal alone may have been enough.
    assert!(matches!(status.code(), Some(0 | 130 | 143)), "{status}");
}

#[test]
fn ctrl_c_ends_events_follow() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let mut follower: Command = daemon.command(&["events", "--follow"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("starts");
    let events = lines(follower.stdout.take().expect("piped"));
    next_with(&events, "pending -> up");
    let pid = rustix::process::Pid::from_child(&follower);
    rustix::process::kill_process(pid, Signal::INT).expect("it is there");
    let status = follower.wait().expect("ends");
    assert!(!status.success(), "{status}");
}
