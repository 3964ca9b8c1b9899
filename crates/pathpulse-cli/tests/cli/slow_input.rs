//! Input that does not arrive: clients that do not complete their requests, and a configuration
//! file on a disk that hangs.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, DiskSpec, Release, Spec, require};
use rustix::process::Signal;

use super::common::{Daemon, PATIENCE, plain_file, rig, stderr};
use super::web::Web;

const STOP_LIMIT: Duration = Duration::from_secs(1);

/// A client that sends only this.
fn client(daemon: &Daemon, sent: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(&daemon.socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(sent).expect("sent");
    stream
}

#[test]
fn clients_with_incomplete_requests_are_dropped() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let body = b"POST /v1/pause HTTP/1.1\r\nHost: p\r\nContent-Length: 100\r\n\r\n{\"paths\"";
    let asked: [(&[u8], &str); 4] = [
        (b"", ""),
        (b"GET /v1/sta", ""),
        (b"GET /healthz HTTP/1.1\r\nHost: p\r\n\r\n", "HTTP/1.1 200 "),
        (body, "HTTP/1.1 408 "),
    ];
    // All at the same time, because the daemon waits for each until its limit.
    let clients = asked.map(|(said, expected)| (client(&daemon, said), expected));
    for (mut client, expected) in clients {
        let mut heard = String::new();
        client
            .read_to_string(&mut heard)
            .expect("the daemon ends it");
        assert!(heard.starts_with(expected), "{expected}: {heard:?}");
    }
    daemon.wait_state(file.path(), "up");
}

#[test]
fn a_configuration_on_a_hanging_disk_blocks_nobody() {
    require!();
    let disk = DiskSpec {
        size_bytes: 4_096,
        ..DiskSpec::default()
    };
    let disks = rig(&Spec { disks: vec![disk] });
    let config = disks.disk(0).path();
    let watched = plain_file(1 << 16);
    let mut text = format!("paths = [{:?}]\n", watched.path());
    text += &"\n".repeat(4_096 - text.len());
    let file = OpenOptions::new().write(true).open(config);
    file.and_then(|mut file| {
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
    })
    .expect("written");
    let config = ["--config", config.to_str().expect("text")];
    let mut daemon = Daemon::start::<&Path>(&[], &config);
    daemon.wait_state(watched.path(), "up");
    assert!(daemon.run(&["reload"]).status.success());

    disks.set(0, Behaviour::Hang).expect("set");
    let refused = daemon.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("may be on a disk that hangs"),
        "{refused:?}"
    );
    // All other requests work.
    let name = watched.path().to_str().expect("text");
    assert!(daemon.run(&["pause", name]).status.success());
    daemon.wait_state(watched.path(), "paused");
    assert!(daemon.run(&["resume", name]).status.success());
    daemon.wait_state(watched.path(), "up");
    assert_eq!(Web::socket(&daemon).get("/healthz").status, 200);
    disks.set(0, Behaviour::Answer).expect("set");
    disks.release(0, Release::Data).expect("released");
    let reloaded = daemon.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");

    // The daemon can be stopped while it reloads the file, and while it reads it at the start.
    disks.set(0, Behaviour::Hang).expect("set");
    daemon.signal(Signal::HUP);
    disks.wait_held(0, 1, PATIENCE).expect("held");
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.wait_end();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_LIMIT, "{took:?}");
    let mut daemon = Daemon::spawn(&[watched.path()], &config);
    // The disk already holds a read of this page.
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let begin = Instant::now();
    while fs::read_to_string(&children).expect("it runs").is_empty() {
        assert!(begin.elapsed() < PATIENCE, "nobody reads");
    }
    daemon.signal(Signal::TERM);
    let (_, took) = daemon.wait_end();
    assert!(took < STOP_LIMIT, "{took:?}");
}
