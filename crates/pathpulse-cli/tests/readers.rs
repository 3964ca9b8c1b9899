//! A monitor whose workers are processes: readers that hang, crash and end are replaced, and
//! nothing is lost by that.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pathpulse::{Config, EventStream, Isolation, Monitor, Settings, State};
use pathpulse_faultdisk::{Behaviour, Rig, Spec};
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(20);

fn rig(disks: usize) -> Rig {
    let mut server = Command::new(env!("CARGO_BIN_EXE_pathpulse"));
    server.arg("rig-server");
    Rig::start_with(server, &Spec::loops(disks)).expect("a rig")
}

fn names(rig: &Rig) -> Vec<PathBuf> {
    rig.disks()
        .iter()
        .map(|disk| disk.path().to_owned())
        .collect()
}

fn monitor(workers: usize) -> Monitor {
    let settings = Settings {
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        ..Settings::default()
    };
    let program = env!("CARGO_BIN_EXE_pathpulse").into();
    Monitor::start(Config {
        settings,
        workers,
        isolation: Isolation::Processes { program },
        ..Config::default()
    })
    .expect("readers")
}

/// The processes whose parent this process is, and whose argument is `reader`.
fn readers() -> Vec<Pid> {
    let me = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split_whitespace().nth(1) == Some(&me) && command.ends_with(b"\0reader\0")
    });
    ours.filter_map(Pid::from_raw).collect()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn next(events: &EventStream) -> pathpulse::Event {
    events.next_within(LIMIT).event().expect("an event")
}

#[test]
fn readers_watch_paths_and_nothing_is_lost_when_they_are_killed_or_stopped() {
    pathpulse_faultdisk::require!();
    let rig = rig(12);
    let monitor = monitor(1);
    let events = monitor.events(1000);
    let ids: Vec<_> = monitor
        .add_all(&names(&rig)[..3], LIMIT)
        .into_iter()
        .map(|id| id.expect("opens"))
        .collect();
    for _ in &ids {
        assert_eq!(next(&events).to, State::Up);
    }
    rig.set(1, Behaviour::Hang).expect("hangs");
    let event = next(&events);
    assert_eq!((event.id, event.to), (ids[1], State::Down));

    for signal in [Signal::KILL, Signal::STOP, Signal::SEGV] {
        let before = readers();
        assert_eq!(before.len(), 1, "one reader");
        let counts = |path| monitor.path(ids[path]).expect("watched").checks.total();
        let checked = counts(0);
        kill_process(before[0], signal).expect("it lives");
        wait_for("another reader", || {
            let now = readers();
            now.len() == 1 && now != before
        });
        // It continues with the state and the counts of each path.
        wait_for("checks", || counts(0) > checked + 3);
        let states = [0, 1, 2].map(|path| monitor.path(ids[path]).expect("watched").state);
        assert_eq!(states, [State::Up, State::Down, State::Up], "{signal:?}");
    }
    rig.recover(1).expect("answers");
    wait_for("up again", || {
        monitor.path(ids[1]).expect("watched").state == State::Up
    });
    let others = std::iter::from_fn(|| events.next_within(Duration::ZERO).event());
    let others: Vec<_> = others
        .filter(|event| event.id != ids[1] && event.from != event.to)
        .collect();
    assert!(others.is_empty(), "{others:?}");

    // A path that was removed keeps its last status, also when another one takes its place.
    let removed = monitor.remove_with_status(ids[0]).expect("watched");
    monitor.settle(LIMIT);
    let last = removed.status().checks.total();
    let again = monitor.add(names(&rig)[0].as_path()).expect("opens");
    wait_for("up", || {
        monitor.path(again).expect("watched").state == State::Up
    });
    assert_eq!(removed.status().checks.total(), last);

    let latencies = || {
        let groups = monitor.groups();
        let counts = groups.iter().map(|group| group.latencies.count());
        counts.sum::<u64>()
    };
    let before = latencies();
    kill_process(readers()[0], Signal::KILL).expect("it lives");
    wait_for("checks", || latencies() > before);

    // Paths that are opened while their reader is killed are watched all the same.
    let names = names(&rig);
    let added = std::thread::scope(|scope| {
        let adding = scope.spawn(|| monitor.add_all(&names[3..], LIMIT));
        for _ in 0..3 {
            let before = readers();
            for reader in &before {
                let _ = kill_process(*reader, Signal::KILL);
            }
            wait_for("another reader", || {
                let now = readers();
                !now.is_empty() && now != before
            });
        }
        adding.join().expect("no panic")
    });
    for id in added {
        let id = id.expect("opens");
        wait_for("up", || {
            monitor.path(id).expect("watched").state == State::Up
        });
    }

    let begin = Instant::now();
    monitor.shutdown(Duration::from_millis(500));
    drop(monitor);
    wait_for("no reader", || readers().is_empty());
    assert!(begin.elapsed() < Duration::from_secs(5));

    several_readers_act_as_one(&names[..2]);
    rig.shutdown().expect("nothing is left");
}

/// Each event comes once, and a second shutdown reports the same as the first.
fn several_readers_act_as_one(names: &[PathBuf]) {
    let monitor = monitor(2);
    let events = monitor.events(1000);
    for id in monitor.add_all(names, LIMIT) {
        id.expect("opens");
    }
    assert_ne!(
        next(&events).id,
        next(&events).id,
        "each path comes up once"
    );
    let report = monitor.shutdown(LIMIT);
    assert_eq!(monitor.shutdown(Duration::ZERO), report);
    assert_eq!((report.held_reads, report.silent_workers), (0, 0));
}
