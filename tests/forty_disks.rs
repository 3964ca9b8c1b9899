//! The main promise, on real block devices: of forty disks, twenty-five misbehave in every way that
//! a disk can, and the status of all of them is right and in time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pathpulse::{
    Choice, Config, Event, Monitor, Settings, State, Verdict, VerdictKind, check_once,
};
use pathpulse_faultdisk::{Behaviour, Load, Release, Rig, Spec};

const TIMEOUT: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(2);
/// Limit for events that must happen, however slow the machine is.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Interval at which a busy disk answers other I/O.
const BUSY_PACE: Duration = Duration::from_millis(5);

const HANGING: std::ops::Range<usize> = 0..10;
const DEAD_FULL: std::ops::Range<usize> = 10..15;
const BUSY: std::ops::Range<usize> = 15..20;
const FAILING: std::ops::Range<usize> = 20..25;
const FINE: std::ops::Range<usize> = 25..40;

/// The environment variable PATHPULSE_BACKEND selects a backend, as for the command line.
fn config() -> Config {
    let forced = std::env::var("PATHPULSE_BACKEND");
    Config {
        backend: forced.map_or(Choice::Auto, |name| name.parse().expect("a backend")),
        settings: Settings {
            interval: INTERVAL,
            timeout: TIMEOUT,
            ..Settings::default()
        },
        ..Config::default()
    }
}

/// Makes twenty-five of the forty disks misbehave.
fn make_faulty(rig: &Rig) {
    for disk in HANGING {
        rig.set(disk, Behaviour::Hang).expect("hangs");
    }
    for disk in DEAD_FULL {
        rig.saturate(disk, Load::Dead).expect("dead and full");
    }
    for disk in BUSY {
        let answer_every = BUSY_PACE;
        rig.saturate(disk, Load::Busy { answer_every })
            .expect("busy");
    }
    for disk in FAILING {
        rig.set(disk, Behaviour::Fail(5)).expect("fails with EIO");
    }
}

fn forty_disks() -> (Rig, Vec<PathBuf>) {
    let rig = Rig::start(&Spec::loops(40)).expect("a rig");
    make_faulty(&rig);
    let paths = rig
        .disks()
        .iter()
        .map(|disk| disk.path().to_owned())
        .collect();
    (rig, paths)
}

fn is_right(disk: usize, verdict: &Verdict) -> bool {
    let kind = verdict.kind();
    match disk {
        _ if HANGING.contains(&disk) => kind == VerdictKind::TimedOut,
        _ if DEAD_FULL.contains(&disk) => kind == VerdictKind::Saturated,
        // Its read may get a tag and an answer, or never get one while others are answered.
        _ if BUSY.contains(&disk) => matches!(kind, VerdictKind::Busy | VerdictKind::Good),
        _ if FAILING.contains(&disk) => verdict.errno().is_some_and(|errno| errno.raw() == 5),
        _ => kind == VerdictKind::Good,
    }
}

#[test]
fn a_single_check_of_all_disks_is_right_and_in_time() {
    pathpulse_faultdisk::require!();
    let (rig, paths) = forty_disks();
    let start = Instant::now();
    let checked = check_once(&paths, &config()).expect("a backend");
    let took = start.elapsed();
    for (disk, report) in checked.reports.iter().enumerate() {
        let verdict = report.verdict.as_ref().expect("opens");
        assert!(is_right(disk, verdict), "disk {disk}: {verdict}");
    }
    assert!(
        took <= TIMEOUT + Duration::from_millis(200),
        "took {took:?}"
    );
    rig.shutdown().expect("nothing is left");
}

/// Takes events until each of `disks` has entered one of `states`.
fn wait_for(
    events: &pathpulse::EventStream,
    paths: &[PathBuf],
    disks: &[usize],
    states: &[State],
) -> HashMap<PathBuf, Event> {
    let end = Instant::now() + WAIT_LIMIT;
    let mut seen = HashMap::new();
    while disks.iter().any(|disk| !seen.contains_key(&paths[*disk])) {
        let left = end.saturating_duration_since(Instant::now());
        let event = events.next_within(left).event();
        let event = event.unwrap_or_else(|| panic!("not all came to {states:?}: {seen:?}"));
        if states.contains(&event.to) {
            seen.insert(event.path.name().to_owned(), event);
        }
    }
    seen
}

#[test]
fn healthy_paths_keep_their_interval_and_released_paths_come_back() {
    pathpulse_faultdisk::require!();
    let rig = Rig::start(&Spec::loops(40)).expect("a rig");
    let paths: Vec<PathBuf> = rig
        .disks()
        .iter()
        .map(|disk| disk.path().to_owned())
        .collect();
    let monitor = Monitor::start(config()).expect("a backend");
    let events = monitor.events(10_000);
    let ids: Vec<_> = monitor
        .add_all(&paths, WAIT_LIMIT)
        .into_iter()
        .map(|answer| answer.expect("opens"))
        .collect();
    let all: Vec<usize> = (0..40).collect();
    wait_for(&events, &paths, &all, &[State::Up]);

    let sick: Vec<usize> = HANGING.chain(DEAD_FULL).chain(FAILING).collect();
    make_faulty(&rig);
    let injected = Instant::now();
    let before: Vec<u64> = FINE.map(|disk| good_checks(&monitor, ids[disk])).collect();
    wait_for(&events, &paths, &sick, &[State::Down]);
    // Interval, timeout, and what a loaded machine may add; the promise without it is 4 s.
    assert!(injected.elapsed() < INTERVAL + TIMEOUT + Duration::from_secs(1));

    for (disk, before) in FINE.zip(before) {
        let checks = good_checks(&monitor, ids[disk]) - before;
        let expected = injected.elapsed().as_secs() / INTERVAL.as_secs();
        assert!(
            checks + 1 >= expected,
            "disk {disk}: {checks} of {expected}"
        );
    }
    let status: HashMap<_, _> = monitor.status().into_iter().collect();
    for disk in BUSY.chain(FINE) {
        assert_eq!(status[&ids[disk]].state, State::Up, "disk {disk}");
    }
    for disk in HANGING {
        assert!(status[&ids[disk]].stuck.is_some(), "disk {disk}");
    }

    for disk in HANGING.chain(DEAD_FULL).chain(FAILING) {
        rig.recover(disk).expect("recovers");
    }
    wait_for(&events, &paths, &sick, &[State::Up, State::Marginal]);
    assert_eq!(monitor.shutdown(Duration::from_secs(1)).held_reads, 0);
    rig.shutdown().expect("nothing is left");
}

fn good_checks(monitor: &Monitor, id: pathpulse::PathId) -> u64 {
    let status = monitor.path(id).expect("watched");
    status.checks.of(VerdictKind::Good)
}

#[test]
fn a_shutdown_waits_for_no_device_and_reports_held_reads() {
    pathpulse_faultdisk::require!();
    let (rig, paths) = forty_disks();
    let monitor = Monitor::start(config()).expect("a backend");
    let events = monitor.events(10_000);
    monitor.add_all(&paths, WAIT_LIMIT);
    let sick: Vec<usize> = HANGING.chain(DEAD_FULL).collect();
    wait_for(&events, &paths, &sick, &[State::Down]);
    let start = Instant::now();
    let left = monitor.shutdown(Duration::from_millis(500));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(left.held_reads >= HANGING.len(), "{left:?}");
    assert_eq!(left.silent_workers, 0);
    assert!(monitor.add(&paths[0]).is_err(), "it is closed");
    rig.shutdown().expect("nothing is left");
}

#[test]
fn files_without_nowait_get_the_right_verdict_while_64_hang() {
    pathpulse_faultdisk::require!();
    let rig = Rig::start(&Spec::files(80)).expect("a rig");
    let loops = Rig::start(&Spec::loops(8)).expect("a rig");
    for disk in 0..64 {
        rig.set(disk, Behaviour::Hang).expect("hangs");
    }
    let paths: Vec<PathBuf> = rig
        .disks()
        .iter()
        .chain(loops.disks())
        .map(|disk| disk.path().to_owned())
        .collect();
    let start = Instant::now();
    let checked = check_once(&paths, &config()).expect("a backend");
    let took = start.elapsed();
    for (disk, report) in checked.reports.iter().enumerate() {
        let verdict = report.verdict.as_ref().expect("opens");
        let expected = if disk < 64 {
            VerdictKind::TimedOut
        } else {
            VerdictKind::Good
        };
        assert_eq!(verdict.kind(), expected, "disk {disk}: {verdict}");
    }
    assert!(
        took <= TIMEOUT + Duration::from_millis(200),
        "took {took:?}"
    );
    for disk in 0..64 {
        rig.release(disk, Release::Data).expect("released");
    }
    rig.shutdown().expect("nothing is left");
}

#[test]
fn a_vanished_disk_goes_down_and_the_others_stay() {
    pathpulse_faultdisk::require!();
    let rig = Rig::start(&Spec::loops(2)).expect("a rig");
    let paths: Vec<PathBuf> = rig
        .disks()
        .iter()
        .map(|disk| disk.path().to_owned())
        .collect();
    let monitor = Monitor::start(config()).expect("a backend");
    let events = monitor.events(100);
    let ids = monitor.add_all(&paths, WAIT_LIMIT);
    wait_for(&events, &paths, &[0, 1], &[State::Up]);
    rig.vanish(0).expect("vanishes");
    wait_for(&events, &paths, &[0], &[State::Down]);
    let other = ids[1].as_ref().expect("opens");
    assert_eq!(monitor.path(*other).expect("watched").state, State::Up);
    assert!(monitor.remove(*ids[0].as_ref().expect("opens")));
    monitor.shutdown(Duration::from_secs(1));
    rig.shutdown().expect("nothing is left");
}
