//! Disks whose tags are all taken by other I/O, for a minute. No backend reports a disk that
//! answers as down, and all report a disk that stops answering in time. All backends watch the same
//! disks at once.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pathpulse::{
    BackendKind, Cause, Choice, Config, Event, Monitor, PathId, Settings, State, VerdictKind,
};
use pathpulse_faultdisk::{Load, Rig, Spec};

const MINUTE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(1_500);
/// Longer than it takes to answer all reads that hold a tag, so a read that gets a tag is answered
/// in time.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The daemon's tolerance in addition to interval and timeout.
const TOLERANCE: Duration = Duration::from_millis(250);
/// The limit for events that are certain, however slow the machine is.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// The times between two answers of the disks that work.
const ANSWER_INTERVALS_MS: [u64; 6] = [1, 1, 2, 2, 5, 5];
/// The disk that stops answering.
const DYING: usize = ANSWER_INTERVALS_MS.len();
/// The disk without other I/O.
const IDLE: usize = DYING + 1;

const BACKENDS: [BackendKind; 3] = [BackendKind::IoUring, BackendKind::Aio, BackendKind::Sync];

fn busy(ms: u64) -> Load {
    Load::Busy {
        answer_every: Duration::from_millis(ms),
    }
}

/// A monitor with one backend.
struct Watch {
    backend: BackendKind,
    monitor: Monitor,
    ids: Vec<PathId>,
    events: thread::JoinHandle<Vec<(Instant, Event)>>,
}

impl Watch {
    /// Watches the disks, and returns when all are up. Collects events until the minute ends that
    /// starts when all backends are ready.
    fn start(backend: BackendKind, paths: &[PathBuf], ready: &Arc<Barrier>) -> Watch {
        let settings = Settings {
            interval: INTERVAL,
            timeout: TIMEOUT,
            ..Settings::default()
        };
        let config = Config {
            backend: Choice::Only(backend),
            settings,
            ..Config::default()
        };
        let monitor = Monitor::start(config).expect("a backend");
        let stream = monitor.events(10_000);
        let added = monitor.add_all(paths, WAIT_LIMIT);
        let ids = added.into_iter().map(|id| id.expect("opens")).collect();
        for _ in paths {
            let event = stream
                .next_within(WAIT_LIMIT)
                .event()
                .expect("a first check");
            assert_eq!(event.to, State::Up, "{event:?}");
        }
        let ready = Arc::clone(ready);
        let events = thread::spawn(move || {
            ready.wait();
            let end = Instant::now() + MINUTE;
            let mut events = Vec::new();
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                let event = stream.next_within(left).event();
                events.extend(event.map(|event| (Instant::now(), event)));
            }
            assert_eq!(stream.take_lost(), 0);
            events
        });
        Watch {
            backend,
            monitor,
            ids,
            events,
        }
    }

    fn of_kind(&self, disk: usize, kind: VerdictKind) -> u64 {
        let path = self.monitor.path(self.ids[disk]).expect("watched");
        path.checks.of(kind)
    }
}

/// Checks the events: the dying disk was down and came back, and no other disk changed.
fn check_events(watch: Watch, paths: &[PathBuf], (died, back): (Instant, Instant)) {
    let backend = watch.backend;
    for (disk, path) in paths.iter().enumerate().filter(|(disk, _)| *disk != DYING) {
        let (good, busy) = (VerdictKind::Good, VerdictKind::Busy);
        let good = watch.of_kind(disk, good);
        let busy = watch.of_kind(disk, busy);
        assert!(
            good + busy >= 30,
            "{backend} {path:?}: {good} good, {busy} busy"
        );
    }
    let busy: u64 = (0..DYING)
        .map(|disk| watch.of_kind(disk, VerdictKind::Busy))
        .sum();
    assert!(
        busy > 0,
        "{backend}: no check found the disk busy, so this test showed nothing"
    );

    let dying = watch.monitor.path(watch.ids[DYING]).expect("watched");
    let events = watch.events.join().expect("events");
    // A read that got a tag late may end after its deadline. That changes no state.
    let is_late_answer = |event: &Event| event.from == event.to && event.cause == Cause::LateAnswer;
    let of_dying = |event: &Event| event.path.name() == paths[DYING];
    for (_, event) in events.iter().filter(|(_, event)| !is_late_answer(event)) {
        assert!(of_dying(event), "{backend}: {event:?}");
    }
    let changes: Vec<_> = events
        .iter()
        .filter(|(_, event)| of_dying(event) && !is_late_answer(event))
        .collect();
    let states: Vec<State> = changes.iter().map(|(_, event)| event.to).collect();
    // It comes back marginal if many of its last hundred checks were bad.
    let expected = matches!(states[..], [State::Down, State::Up | State::Marginal]);
    assert!(expected, "{backend}: {changes:?}, {dying:?}");
    let took = changes[0].0.saturating_duration_since(died);
    assert!(
        took <= INTERVAL + TIMEOUT + TOLERANCE,
        "{backend}: {took:?}"
    );
    assert!(
        changes[0].0 < back && changes[1].0 > back,
        "{backend}: {changes:?}"
    );
}

#[test]
fn under_full_load_only_the_dead_disk_is_down_and_in_time() {
    pathpulse_faultdisk::require!();
    let mut server = Command::new(env!("CARGO_BIN_EXE_pathpulse-chaos"));
    server.arg("rig-server");
    let rig = Rig::start_with(server, &Spec::loops(IDLE + 1)).expect("a rig");
    let paths: Vec<PathBuf> = rig.disks().iter().map(|d| d.path().to_owned()).collect();
    let ready = Arc::new(Barrier::new(BACKENDS.len() + 1));
    let watches = BACKENDS.map(|backend| Watch::start(backend, &paths, &ready));

    for (disk, ms) in ANSWER_INTERVALS_MS.into_iter().enumerate() {
        rig.saturate(disk, busy(ms)).expect("saturate");
    }
    rig.saturate(DYING, busy(1)).expect("saturate");
    ready.wait();
    thread::sleep(MINUTE / 3);
    rig.saturate(DYING, Load::Dead).expect("saturate dead");
    let died = Instant::now();
    thread::sleep(MINUTE / 3);
    let back = Instant::now();
    rig.saturate(DYING, busy(1)).expect("saturate busy");

    // The threads that collect events wait for the rest of the minute.
    for watch in &watches {
        while !watch.events.is_finished() {
            thread::sleep(Duration::from_millis(50));
        }
    }
    for disk in 0..=DYING {
        rig.unsaturate(disk).expect("unsaturate");
    }
    for watch in watches {
        check_events(watch, &paths, (died, back));
    }
    rig.shutdown().expect("nothing is left");
}
