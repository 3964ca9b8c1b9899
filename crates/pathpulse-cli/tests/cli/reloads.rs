//! A thousand reloads while disks fail: paths that stay are checked without interruption, all
//! changes become events, and removed paths leave nothing behind.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Disk, Release, Rig, Spec, require};
use serde_json::{Value, json};

use super::common::{Daemon, PATIENCE, pathpulse, rig};
use super::metrics::value;
use super::status_snapshots::{Follower, Snapshot, StopOnDrop, files};
use super::web::Web;

const INTERVAL: Duration = Duration::from_millis(200);
/// Checks that are due within the same slot start together.
const SLOT: Duration = Duration::from_millis(8);
/// Maximal growth of memory in eight hundred reloads, with all chance.
const GROWTH_BYTES_MAX: u64 = 2 << 20;
/// Maximal median growth in a hundred reloads, which add, change or remove two thousand paths: 65
/// bytes for each.
const STEP_BYTES_MAX: u64 = 128 << 10;

/// The resources of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    /// Registered files of its rings.
    ring_files: usize,
    anonymous_bytes: u64,
}

impl Holdings {
    fn of(daemon: &Daemon) -> Holdings {
        let folder = PathBuf::from(format!("/proc/{}", daemon.pid()));
        let entries = |what: &str| fs::read_dir(folder.join(what)).expect("it runs");
        let status = fs::read_to_string(folder.join("status")).expect("it runs");
        let bytes = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = bytes.and_then(|text| text.trim().strip_suffix(" kB"));
        let kib: u64 = kib.and_then(|text| text.parse().ok()).expect("a number");
        let rings = entries("fdinfo").flatten();
        let rings = rings.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        Holdings {
            descriptors: entries("fd").count(),
            threads: entries("task").count(),
            ring_files: rings.map(|text| ring_files(&text)).sum(),
            anonymous_bytes: kib << 10,
        }
    }

    /// Waits until all opens and releases are done, so that it holds as much as in the beginning.
    fn settled(daemon: &Daemon, most: &Holdings) -> Holdings {
        let begin = Instant::now();
        loop {
            let now = Holdings::of(daemon);
            if now.descriptors <= most.descriptors
                && now.threads <= most.threads
                && now.ring_files == most.ring_files
            {
                return now;
            }
            assert!(begin.elapsed() < PATIENCE, "{most:?} became {now:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The median growth of memory. A leak grows each time, but memory that is needed by chance, as for
/// many clients at once, grows now and then.
fn step(bytes: &[u64]) -> u64 {
    let steps = bytes.windows(2).map(|two| two[1].saturating_sub(two[0]));
    let mut steps: Vec<u64> = steps.collect();
    steps.sort_unstable();
    steps[steps.len() / 2]
}

/// The number of files of a ring, by the information of its descriptor.
fn ring_files(text: &str) -> usize {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("UserFiles:"));
    let files = lines.skip(1).take_while(|line| line.starts_with(' '));
    files.filter(|line| !line.ends_with("<none>")).count()
}

/// Waits until a path is in this state.
fn wait_state(web: &Web, path: &Path, state: &str) {
    wait_document(web, path, &format!("\"state\":\"{state}\""));
}

/// Waits until this is part of the document of a path.
fn wait_document(web: &Web, path: &Path, part: &str) {
    let begin = Instant::now();
    loop {
        let answer = web.get(&format!("/v1/paths{}", path.display()));
        if answer.body.contains(part) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{part} expected: {answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes a disk fail and hang, and waits for each state while the daemon reloads.
fn fail_and_recover(disks: &Rig, disk: usize, web: &Web) {
    let path = disks.disks()[disk].path();
    disks.set(disk, Behaviour::Fail(5)).expect("set");
    wait_state(web, path, "down");
    disks.set(disk, Behaviour::Answer).expect("set");
    wait_state(web, path, "up");
    disks.set(disk, Behaviour::Hang).expect("set");
    wait_state(web, path, "down");
    disks.set(disk, Behaviour::Answer).expect("set");
    disks.release(disk, Release::Data).expect("released");
    wait_state(web, path, "up");
}

/// Fails unless the events have each change of each path in order, and none was lost. A path that
/// was removed starts again as pending.
fn assert_complete(events: &[String], kept: &[&Path], metrics: &str) {
    let mut states: HashMap<PathBuf, (String, u64)> = HashMap::new();
    for event in events {
        let event: Value = serde_json::from_str(event).expect("a document");
        let text = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("{event}"));
        let path = states.entry(text("path").into());
        let (state, changes) = path.or_insert_with(|| ("pending".to_owned(), 0));
        assert_eq!(text("from"), state, "{event}");
        *changes += u64::from(text("from") != text("to"));
        let now = text("to").replace("removed", "pending");
        *state = now;
    }
    for path in kept {
        let series = format!("pathpulse_path_transitions_total{{path={path:?}}}");
        assert_eq!(value(metrics, &series), states[*path].1 as f64, "{path:?}");
    }
    assert_eq!(value(metrics, "pathpulse_events_lost_total"), 0.0);
}

/// The last seen checks of a path.
struct Seen {
    checks: u64,
    /// The last check ended after this time, if its end was seen.
    after: Option<Instant>,
}

/// Takes snapshots until `is_over`, and fails if a count ever decreases, or if two checks of a
/// healthy path come in less than an interval.
fn observe(web: &Web, kept: &[&Path], calm: &[PathBuf], is_over: &AtomicBool) {
    let mut last = Snapshot::take(web);
    let seen = |path: &PathBuf| {
        let checks = last.checks(path);
        (
            path.clone(),
            Seen {
                checks,
                after: None,
            },
        )
    };
    let mut seen: HashMap<PathBuf, Seen> = calm.iter().map(seen).collect();
    while !is_over.load(Relaxed) {
        let look = Snapshot::take(web);
        for path in kept {
            assert_grows(&last.path(path)["checks"], &look.path(path)["checks"]);
        }
        for (path, seen) in &mut seen {
            let checks = look.checks(path);
            let new = checks - seen.checks;
            if new == 0 {
                continue;
            }
            if let Some(after) = seen.after {
                let slowest_us = look.path(path)["latency_us"]["max"].as_u64();
                let excused = SLOT + Duration::from_micros(slowest_us.unwrap_or(0));
                let most = look.end - after + excused;
                let least = INTERVAL * u32::try_from(new).expect("few");
                // A worker that wakes late starts a check late, but the next one in time.
                let is_right = most >= least || most + woken_late(web) >= least;
                assert!(is_right, "{path:?}: {new} more checks in {most:?}");
            }
            let after = Some(last.begin);
            *seen = Seen { checks, after };
        }
        last = look;
        thread::sleep(INTERVAL / 4);
    }
}

/// Fails unless the counts of verdicts add up, and none decreases.
fn assert_grows(before: &Value, after: &Value) {
    let kinds = after.as_object().expect("an object").iter();
    let mut sum = 0;
    for (kind, count) in kinds {
        let count = count.as_u64().expect("a number");
        assert!(
            Some(count) >= before[kind].as_u64(),
            "{kind}: {before} became {after}"
        );
        sum += if kind == "total" { 0 } else { count };
    }
    assert_eq!(after["total"], sum, "{after}");
}

fn woken_late(web: &Web) -> Duration {
    let series = "pathpulse_scheduler_lag_max_seconds{worker=\"0\"}";
    Duration::from_secs_f64(value(&web.get("/metrics").body, series))
}

/// A configuration file with two contents: all paths; and all but the last ten, with the ten before
/// those in a group, which changes them.
struct TwoConfigs {
    file: PathBuf,
    whole: String,
    less: String,
}

impl TwoConfigs {
    fn new(folder: &Path, all: &[&Path]) -> TwoConfigs {
        let (kept, gone) = all.split_at(all.len() - 10);
        // With these rules, a path that answers is up, however often it has failed.
        let rules = "[defaults]\nmarginal_errors = 1000\nflaps = 0\nrise = 1\n";
        let mut less = format!("paths = {kept:?}\n{rules}");
        for path in &kept[kept.len() - 10..] {
            less += &format!("[[path]]\nname = {path:?}\nfall = 3\ngroup = 'other'\n");
        }
        assert_eq!(gone.len(), 10);
        TwoConfigs {
            file: folder.join("p.toml"),
            whole: format!("paths = {all:?}\n{rules}"),
            less,
        }
    }

    /// Replaces the file in one step, as editors do.
    fn write(&self, text: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, text).expect("written");
        fs::rename(&new, &self.file).expect("replaced");
    }

    /// Reloads twice, and ends with the first configuration.
    fn reload_twice(&self, web: &Web) {
        for (text, added, removed) in [(&self.less, 0, 10), (&self.whole, 10, 0)] {
            self.write(text);
            let answer = web.order("POST", "/v1/reload", "");
            let done: Value = serde_json::from_str(&answer.body).expect("a document");
            let expected = json!({
                "added": added, "removed": removed, "changed": 10, "unchanged": 480, "remarks": []
            });
            assert_eq!(done, expected);
        }
    }
}

#[test]
fn a_thousand_reloads_lose_no_verdict_and_leak_nothing() {
    require!();
    let disks = rig(&Spec::loops(20));
    let (folder, plain) = files(480);
    let rigged = disks.disks().iter().map(Disk::path);
    let all: Vec<&Path> = rigged.chain(plain.iter().map(PathBuf::as_path)).collect();
    let configs = TwoConfigs::new(folder.path(), &all);
    configs.write(&configs.whole);
    let config = ["--config", configs.file.to_str().expect("text")];
    let pace = ["--interval", "200ms", "--timeout", "500ms"];
    let mut command = pathpulse();
    // Otherwise threads that open files leave free memory in several arenas, and large answers
    // raise the threshold of mmap (mallopt(3)), by chance.
    command.env("MALLOC_ARENA_MAX", "1");
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let daemon = Daemon::spawn_by::<&Path>(command, &[], &[&config[..], &pace].concat());
    daemon.wait_log("paths are watched");
    let web = Web::socket(&daemon);
    for path in &all {
        wait_state(&web, path, "up");
    }
    let (kept, (calm, last)) = (&all[..480], (&plain[..400], &plain[400]));
    let is_over = AtomicBool::new(false);
    let follower = Follower::start(&daemon);
    let fresh = Holdings::of(&daemon);
    let events = thread::scope(|scope| {
        let over = StopOnDrop(&is_over);
        let follower = scope.spawn(|| follower.until_paused(last, &is_over));
        let faults = scope.spawn(|| {
            for disk in (0..20).cycle().take_while(|_| !is_over.load(Relaxed)) {
                fail_and_recover(&disks, disk, &web);
            }
        });
        let observer = scope.spawn(|| observe(&web, kept, calm, &is_over));
        let (mut bytes, mut wrong) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let before = Snapshot::take(&web);
            for _ in 0..50 {
                configs.reload_twice(&web);
            }
            wrong.extend(
                Snapshot::take(&web)
                    .holds_pace(&before, calm, INTERVAL)
                    .err(),
            );
            // The last configuration holds for all paths, also for those that were being opened.
            for path in &all[480..490] {
                wait_document(&web, path, "\"group\":null");
                wait_state(&web, path, "up");
            }
            // Rare requests allocate their memory early.
            web.get("/metrics");
            bytes.push(Holdings::settled(&daemon, &fresh).anonymous_bytes);
        }
        assert!(step(&bytes) < STEP_BYTES_MAX, "{bytes:?}");
        let most = bytes[1] + GROWTH_BYTES_MAX;
        assert!(bytes[2..].iter().all(|now| *now < most), "{bytes:?}");
        // On a machine that is busy with other tests, a worker misses a check now and then; reloads
        // that delay it would do so in each hundred.
        assert!(wrong.len() <= 8, "{wrong:#?}");
        drop(over);
        faults.join().expect("every failure was reported");
        observer
            .join()
            .expect("no verdict was lost, and no path checked twice");
        let body = json!({ "paths": [last] }).to_string();
        assert_eq!(web.order("POST", "/v1/pause", &body).status, 200);
        follower
            .join()
            .expect("no panic")
            .expect("the last event arrived")
    });
    assert_complete(&events, kept, &web.get("/metrics").body);
}
