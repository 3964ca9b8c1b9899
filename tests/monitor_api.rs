//! Ids of paths, streams of events, and shutdowns, as a program that embeds monitors sees them.

use std::time::Duration;

use pathpulse::{Config, Monitor, Next, Settings, ShutdownReport, State};
use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec, require};

const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn monitor() -> Monitor {
    let forced = std::env::var("PATHPULSE_BACKEND");
    Monitor::start(Config {
        backend: forced.map_or_else(
            |_| Config::default().backend,
            |name| name.parse().expect("known"),
        ),
        settings: Settings {
            interval: Duration::from_millis(50),
            ..Settings::default()
        },
        ..Config::default()
    })
    .expect("a backend")
}

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    std::fs::write(file.path(), vec![0xA5; 1 << 16]).expect("written");
    file.as_file().sync_all().expect("synced");
    file
}

#[test]
fn ids_of_one_monitor_are_unknown_to_others() {
    let (one, other) = (monitor(), monitor());
    let (files, theirs) = ([file(), file()], file());
    let ours = files.each_ref().map(|file| one.add(file).expect("watched"));
    let their = other.add(&theirs).expect("watched");
    for id in ours {
        assert!(other.path(id).is_none() && other.info(id).is_none());
        assert!(!other.pause(id) && !other.resume(id) && !other.check_now(id));
        assert!(!other.change(id, Settings::default()) && !other.remove(id));
    }
    assert!(!one.remove(their));
    assert_eq!((one.status().len(), other.status().len()), (2, 1));
    assert!(ours.into_iter().all(|id| one.remove(id)) && other.remove(their));
}

#[test]
fn streams_end_with_their_monitor_and_shutdowns_repeat_their_report() {
    let monitor = monitor();
    let events = monitor.events(16);
    let file = file();
    monitor.add(&file).expect("watched");
    let up = events
        .next_within(WAIT_LIMIT)
        .event()
        .expect("its first check");
    assert_eq!(up.to, State::Up);
    assert!(matches!(events.next_within(Duration::ZERO), Next::Timeout));
    for _ in 0..3 {
        assert_eq!(monitor.shutdown(WAIT_LIMIT), ShutdownReport::default());
    }
    assert!(matches!(events.next_within(WAIT_LIMIT), Next::Ended));
    // A stream that is created afterwards ends at once.
    assert!(matches!(
        monitor.events(16).next_within(WAIT_LIMIT),
        Next::Ended
    ));
}

#[test]
fn a_second_shutdown_counts_held_reads_once() {
    require!();
    let disks = Rig::start(&Spec::loops(1)).expect("a rig");
    let monitor = monitor();
    disks.set(0, Behaviour::Hang).expect("set");
    monitor.add(disks.disk(0).path()).expect("watched");
    disks.wait_held(0, 1, WAIT_LIMIT).expect("held");
    let held = ShutdownReport {
        held_reads: 1,
        silent_workers: 0,
    };
    for _ in 0..2 {
        assert_eq!(monitor.shutdown(Duration::from_secs(1)), held);
    }
    disks.release(0, Release::Data).expect("released");
}
