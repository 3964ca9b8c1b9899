//! Many clients, some of which read and some of which do not: none of them delays the checks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{Daemon, PATIENCE};
use super::metrics::value;
use super::status_snapshots::{Follower, Snapshot, StopOnDrop, files};
use super::web::Web;

const INTERVAL: Duration = Duration::from_millis(100);
/// The length of a window in which checks are counted.
const INTERVALS: u32 = 20;
/// On a machine that is busy with other tests, the daemon wakes late now and then, and a check that
/// is an interval late is skipped. So the pace must be kept in some of these windows. All clients
/// are there in each window, so a client that delays the checks would do so in all of them.
const WINDOWS: usize = 10;

/// Fails unless each of these paths has one check in each interval, in two windows that count:
/// `begin` prepares each window, and `counts` decides afterwards whether it counts.
fn assert_pace(web: &Web, paths: &[PathBuf], mut begin: impl FnMut(), counts: impl Fn() -> bool) {
    let mut wrong = Vec::new();
    let mut kept = 0;
    while kept < 2 {
        begin();
        let before = Snapshot::take(web);
        thread::sleep(INTERVAL * INTERVALS);
        let held = Snapshot::take(web).holds_pace(&before, paths, INTERVAL);
        if !counts() {
            continue;
        }
        match held {
            Ok(()) => kept += 1,
            Err(problem) => wrong.push(problem),
        }
        assert!(wrong.len() + kept <= WINDOWS, "{wrong:#?}");
    }
}

fn followers(daemon: &Daemon, count: usize) -> Vec<Follower> {
    (0..count).map(|_| Follower::start(daemon)).collect()
}

fn clients(web: &Web, what: &str) -> u64 {
    let status: Value = serde_json::from_str(&web.get("/v1/status").body).expect("a document");
    status["clients"][what].as_u64().expect("a number")
}

#[test]
fn clients_that_stream_or_do_not_read_do_not_delay_checks() {
    let (_folder, all) = files(200);
    let (calm, restless) = all.split_at(100);
    let (last, restless) = restless.split_last().expect("some");
    let daemon = Daemon::start(&all, &["--interval", "100ms"]);
    let web = Web::socket(&daemon);
    for path in &all {
        daemon.wait_state(path, "up");
    }
    assert_pace(&web, calm, || {}, || true);

    let reading = followers(&daemon, 100);
    let mut still = followers(&daemon, 100);
    let order = |what: &str, paths: &[PathBuf]| {
        let body = json!({ "paths": paths }).to_string();
        let answer = web.order("POST", &format!("/v1/{what}"), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = StopOnDrop(&is_over);
        let restless = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                order("pause", restless);
                order("resume", restless);
            }
        });
        let read = |follower: Follower| {
            let is_over = &is_over;
            scope.spawn(move || follower.until_paused(last, is_over))
        };
        let readers: Vec<_> = reading.into_iter().map(read).collect();
        // A new client that does not read replaces each dropped one.
        let refill = || {
            let lacking = 100 + clients(&web, "too_slow") - still.len() as u64;
            still.extend(followers(&daemon, lacking as usize));
        };
        assert_pace(&web, calm, refill, || clients(&web, "here") > 200);
        // Exactly the clients that do not read are dropped and counted.
        let begin = Instant::now();
        while clients(&web, "too_slow") < still.len() as u64 {
            assert!(begin.elapsed() < PATIENCE, "{}", clients(&web, "too_slow"));
            thread::sleep(INTERVAL);
        }
        drop(over);
        restless.join().expect("all was done");
        order("pause", std::slice::from_ref(last));
        for reader in readers {
            let heard = reader.join().expect("no panic").expect("it is told");
            assert!(heard.len() > 1_000, "{} events", heard.len());
        }
    });
    let dropped = value(
        &web.get("/metrics").body,
        r#"pathpulse_clients_dropped_total{reason="too_slow"}"#,
    );
    assert_eq!(
        (clients(&web, "too_slow"), dropped),
        (still.len() as u64, still.len() as f64)
    );
}
