//! `/livez` and `/healthz`: the answers to liveness probes, and their times. A stall is reported
//! within `max_stall` plus 100 ms, and a hung disk does not slow down any endpoint.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Disk, Release, Spec, report_skip, require};
use serde_json::json;

use super::common::{Daemon, PATIENCE, plain_file, rig};
use super::held_worker::HeldWorker;
use super::status_snapshots::Follower;
use super::web::{Answer, Web};

const SLACK: Duration = Duration::from_millis(100);
/// A machine that is busy with other tests delays things now and then, but the daemon must never do
/// so. So the time limits must be kept in some of these rounds, each of which has the fault.
const ROUNDS: usize = 10;
const MAX_STALL: Duration = Duration::from_millis(400);

/// Probes without pause until the answer has this status, and returns the time of that.
fn wait_status(web: &Web, path: &Path, status: u16) -> Instant {
    let begin = Instant::now();
    loop {
        let answer = web.livez(path, "400ms");
        if answer.status == status {
            return Instant::now();
        }
        assert!(begin.elapsed() < PATIENCE, "{status} expected: {answer:?}");
    }
}

/// A disk stalls during a probe and is released, with checks at this pace.
fn stalls_and_recovers(pace: &[&str]) {
    let disks = rig(&Spec::loops(2));
    let paths = [disks.disk(0).path(), disks.disk(1).path()];
    let daemon = Daemon::start(&paths, pace);
    let web = Web::socket(&daemon);
    for path in paths {
        daemon.wait_state(path, "up");
        let answer = web.livez(path, "400ms");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut in_time = 0;
    for _ in 0..ROUNDS {
        let probed = AtomicBool::new(false);
        let took = thread::scope(|scope| {
            let prober = scope.spawn(|| {
                // The first probe ends before the stall begins.
                assert_eq!(web.livez(paths[0], "400ms").status, 200);
                probed.store(true, Relaxed);
                wait_status(&web, paths[0], 503)
            });
            while !probed.load(Relaxed) {
                thread::yield_now();
            }
            disks.set(0, Behaviour::Hang).expect("set");
            let stalled = Instant::now();
            let said = prober.join().expect("no panic");
            said.saturating_duration_since(stalled)
        });
        // A known stall is reported at once, and the other disk has none.
        let known = web.livez(paths[0], "400ms");
        assert_eq!(known.status, 503, "{known:?}");
        assert!(
            known.body.contains("stalls: no good answer for"),
            "{known:?}"
        );
        assert_eq!(known.body.lines().count(), 1, "{known:?}");
        assert_eq!(web.livez(paths[1], "400ms").status, 200);
        disks.set(0, Behaviour::Answer).expect("set");
        disks.release(0, Release::Data).expect("released");
        wait_status(&web, paths[0], 200);
        in_time += u32::from(took < MAX_STALL + SLACK);
        if in_time == 2 {
            return;
        }
    }
    panic!("{in_time} of {ROUNDS} stalls were said in time");
}

#[test]
fn a_stall_is_reported_in_time_with_frequent_checks() {
    require!();
    stalls_and_recovers(&["--interval", "50ms", "--timeout", "100ms"]);
}

#[test]
fn a_stall_is_reported_in_time_with_rare_checks() {
    require!();
    stalls_and_recovers(&["--interval", "1h", "--timeout", "300ms"]);
}

#[test]
fn a_stall_is_reported_in_time_with_a_long_timeout() {
    require!();
    stalls_and_recovers(&["--interval", "2s", "--timeout", "10s"]);
}

#[test]
fn a_failing_disk_is_a_stall_only_after_max_stall() {
    require!();
    let disks = rig(&Spec::loops(1));
    let path = disks.disk(0).path();
    let daemon = Daemon::start(&[path], &[]);
    let web = Web::socket(&daemon);
    daemon.wait_state(path, "up");
    disks.set(0, Behaviour::Fail(5)).expect("set");
    daemon.wait_state(path, "down");
    let patient = thread::scope(|scope| {
        let patient = scope.spawn(|| web.livez(path, "30s"));
        assert_eq!(web.livez(path, "200ms").status, 503);
        disks.set(0, Behaviour::Answer).expect("set");
        patient.join().expect("no panic")
    });
    assert_eq!(patient.status, 200, "it answered before that: {patient:?}");
    assert!(patient.took < PATIENCE, "{patient:?}");
}

#[test]
fn bad_probes_are_refused_with_a_reason() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    let web = Web::socket(&daemon);
    let path = file.path().to_str().expect("text");
    for (query, status, says) in [
        ("?path=/dev/nowhere", 404, "/dev/nowhere is not watched"),
        ("", 400, "path"),
        ("?max_stall=1s", 400, "path"),
        (&format!("?path={path}&max_stall=1"), 400, "500ms"),
        (&format!("?path={path}&max_stall=2h"), 400, "60s"),
        (&format!("?path={path}&stall=1s"), 400, "stall"),
    ] {
        let answer = web.get(&format!("/livez{query}"));
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        assert!(answer.body.contains(says), "{query}: {answer:?}");
        assert_eq!(answer.body.lines().count(), 1, "{answer:?}");
        assert!(answer.body.ends_with('\n'), "{answer:?}");
    }
    // Without max_stall, the timeout of the checks applies.
    assert_eq!(web.get(&format!("/livez?path={path}")).status, 200);
}

#[test]
fn a_hung_disk_does_not_slow_down_any_endpoint() {
    require!();
    let disks = rig(&Spec::loops(6));
    // A simulated disk is only as fast as its server, so this path is a plain file.
    let healthy = plain_file(1 << 16);
    let disks_then_file = disks.disks().iter().map(Disk::path).chain([healthy.path()]);
    let paths: Vec<&Path> = disks_then_file.collect();
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    std::fs::write(&config, "").expect("written");
    let config = config.to_str().expect("text");
    let daemon = Daemon::spawn(&paths, &["--http", "0", "--config", config]);
    let webs = [Web::tcp(&daemon), Web::socket(&daemon)];
    daemon.wait_log("paths are watched");
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    let hang: Vec<_> = (0..6).map(|disk| (disk, Behaviour::Hang)).collect();
    disks.set_many(&hang).expect("set");
    for disk in 0..6 {
        disks.wait_held(disk, 1, PATIENCE).expect("held");
    }
    // Probes that wait for a stall block no other request.
    let _waiting = [0, 1, 2].map(|disk| {
        let mut stream = UnixStream::connect(&daemon.socket).expect("connects");
        let target = format!("/livez?path={}&max_stall=60s", paths[disk].display());
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n").expect("sent");
        stream
    });
    // A known stall is reported at once.
    let stalled = format!("/livez?path={}&max_stall=400ms", paths[5].display());
    wait_status(&webs[0], paths[5], 503);
    let healthy = healthy.path().display();
    let of = |resource: &str, path: &dyn Display| format!("/{resource}{path}");
    let targets = [
        "/v1/status".to_owned(),
        "/v1/paths".to_owned(),
        of("v1/paths", &paths[0].display()),
        of("v1/paths", &healthy),
        "/v1/events".to_owned(),
        "/metrics".to_owned(),
        "/healthz".to_owned(),
        of("livez?max_stall=1s&path=", &healthy),
        stalled,
        "/openapi.json".to_owned(),
        "/".to_owned(),
        "/page.js".to_owned(),
        "/page.css".to_owned(),
        "/icon.svg".to_owned(),
    ];
    for web in &webs {
        for target in &targets {
            let expected = if target.ends_with("400ms") { 503 } else { 200 };
            assert_fast(target, || took(target, expected, &web.get(target)));
        }
    }
    assert_fast("following", || {
        let begin = Instant::now();
        Follower::start(&daemon);
        begin.elapsed()
    });
    // Each command is about a disk that hangs. A removed path is added again.
    let order = json!({ "paths": [paths[4]] }).to_string();
    for commands in [
        &["check-now"][..],
        &["pause", "resume"],
        &["remove", "add"],
        &["reload"],
    ] {
        let mut next = commands.iter().cycle();
        assert_fast(&commands.join(" and "), || {
            let target = format!("/v1/{}", next.next().expect("it goes round"));
            took(&target, 200, &webs[1].order("POST", &target, &order))
        });
    }
}

/// The time until an answer with this status.
fn took(target: &str, status: u16, answer: &Answer) -> Duration {
    assert_eq!(answer.status, status, "{target}: {answer:?}");
    answer.took
}

/// Fails unless 99 % of the answers come within 20 ms.
fn assert_fast(what: &str, mut ask: impl FnMut() -> Duration) {
    let mut p99_of_100 = || {
        let mut took: [Duration; 100] = std::array::from_fn(|_| ask());
        took.sort();
        took[98]
    };
    let limit = Duration::from_millis(20);
    let mut slow = Vec::new();
    while slow.len() < ROUNDS {
        match p99_of_100() {
            p99 if p99 < limit => return,
            p99 => slow.push(p99),
        }
    }
    panic!("{what}: {slow:?}");
}

#[test]
fn healthz_fails_while_a_worker_makes_no_progress() {
    let file = plain_file(1 << 16);
    let daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let web = Web::socket(&daemon);
    assert_eq!(web.get("/healthz").status, 200);
    let Some(held) = HeldWorker::first_of(&daemon) else {
        return report_skip("needs strace, to hold one thread up");
    };
    let begin = Instant::now();
    loop {
        let answer = web.get("/healthz");
        if answer.status == 503 {
            assert!(
                answer.body.contains("worker 0 has not responded for"),
                "{answer:?}"
            );
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
    // It blocks nothing else.
    let status = web.get("/v1/status");
    assert!(
        status.status == 200 && status.took < Duration::from_secs(1),
        "{status:?}"
    );
    drop(held);
    while web.get("/healthz").status != 200 {
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn paths_of_a_hung_worker_are_shown_as_overdue_everywhere() {
    let file = plain_file(1 << 16);
    let options = ["--interval", "200ms", "--timeout", "300ms"];
    let daemon = Daemon::start(&[&file], &options);
    daemon.wait_state(file.path(), "up");
    let web = Web::socket(&daemon);
    let path = || daemon.status()["paths"][0].clone();
    assert_eq!(
        (&path()["overdue"], &path()["state"]),
        (&json!(false), &json!("up"))
    );
    let Some(held) = HeldWorker::first_of(&daemon) else {
        return report_skip("needs strace, to hold one thread up");
    };
    let begin = Instant::now();
    while path()["overdue"] != true {
        assert!(begin.elapsed() < PATIENCE, "{}", path());
        thread::sleep(Duration::from_millis(20));
    }
    // The age of the last verdict decides; the answer has the verdict and its age.
    let shown = path();
    assert_eq!(shown["state"], "up");
    assert!(shown["verdict_age_ms"].as_u64() > Some(1_300), "{shown}");
    let checked_at = shown["checked_at"].as_str().expect("it was checked");
    let checked_at: jiff::Timestamp = checked_at.parse().expect("RFC 3339");
    assert!(checked_at < jiff::Timestamp::now());
    let answer = web.livez(file.path(), "50ms");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.body.contains(" is overdue: up (good) was known "),
        "{answer:?}"
    );
    let metrics = web.get("/metrics").body;
    let name = file.path().to_str().expect("text");
    let overdue = format!("pathpulse_path_overdue{{path=\"{name}\"}} 1");
    assert!(metrics.contains(&overdue), "{metrics}");
    let table = daemon.run(&["status"]);
    let table = String::from_utf8_lossy(&table.stdout);
    assert!(
        table.contains(" overdue  up 1s ago") || table.contains(" overdue  up 2s ago"),
        "{table}"
    );
    assert!(table.starts_with("0 of 1 paths up"), "{table}");
    let page = web.get("/").body;
    assert!(page.contains("1 of 1 paths is overdue"), "{page}");

    drop(held);
    while path()["overdue"] == true {
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(web.livez(file.path(), "1s").status, 200);
}

#[test]
fn a_stop_with_a_hung_worker_claims_nothing_about_its_reads() {
    let file = plain_file(1 << 16);
    let mut daemon = Daemon::start(&[&file], &[]);
    daemon.wait_state(file.path(), "up");
    let Some(held) = HeldWorker::first_of(&daemon) else {
        return report_skip("needs strace, to hold one thread up");
    };
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_log("1 worker(s) that did not answer is not known");
    // strace, which blocks the thread, keeps the process from ending, too.
    drop(held);
    let (status, _) = daemon.wait_end();
    assert!(status.success(), "{status}");
    let rest = daemon.log_until_end().join("\n");
    assert!(!rest.contains("holds no read"), "{rest}");
}
