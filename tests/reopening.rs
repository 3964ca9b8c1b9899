//! Devices that are gone, or say so, and what becomes of their paths.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use pathpulse::{Choice, Config, Event, EventStream, Monitor, Rules, Settings, State};
use pathpulse_faultdisk::{Behaviour, Rig, Spec, require};

const INTERVAL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

fn monitor() -> Monitor {
    let forced = std::env::var("PATHPULSE_BACKEND");
    Monitor::start(Config {
        backend: forced.map_or(Choice::Auto, |name| name.parse().expect("a backend")),
        settings: Settings {
            interval: INTERVAL,
            // What fails for a while is up again, not marginal.
            rules: Rules {
                marginal_errors_per_mille: 1000,
                flaps: 0,
                ..Rules::default()
            },
            ..Settings::default()
        },
        ..Config::default()
    })
    .expect("a backend")
}

fn next_to(events: &EventStream, state: State) -> Event {
    let end = Instant::now() + PATIENCE;
    loop {
        let event = events.next_within(end.saturating_duration_since(Instant::now()));
        let event = event.event().expect("an event in time");
        if event.to == state && event.from != state {
            return event;
        }
    }
}

#[test]
fn a_device_that_says_it_is_gone_and_is_not_is_asked_at_its_pace() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("a rig");
    let monitor = monitor();
    let events = monitor.events(1000);
    let path = monitor.add(rig.disk(0).path()).expect("watched");
    next_to(&events, State::Up);
    let before = monitor.path(path).expect("watched").checks.total();
    let start = Instant::now();
    rig.set(0, Behaviour::Fail(libc::ENODEV)).expect("fails");
    assert_eq!(next_to(&events, State::Down).cause.name(), "device_gone");
    while start.elapsed() < 20 * INTERVAL {
        std::thread::sleep(INTERVAL);
    }
    let checks = monitor.path(path).expect("watched").checks.total() - before;
    let intervals = start.elapsed().as_nanos() / INTERVAL.as_nanos() + 1;
    // One when it is due, and one of what its name leads to then.
    assert!(
        u128::from(checks) <= 2 * intervals + 2,
        "{checks} in {intervals}"
    );
    rig.set(0, Behaviour::Answer).expect("answers");
    next_to(&events, State::Up);
}

#[test]
fn a_name_is_followed_to_another_device() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("a rig");
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().join("disk");
    symlink(rig.disk(0).path(), &name).expect("a link");
    let monitor = monitor();
    let events = monitor.events(1000);
    let path = monitor.add(&name).expect("watched");
    let before = next_to(&events, State::Up).path.device();
    rig.vanish(0).expect("vanishes");
    next_to(&events, State::Down);
    std::fs::remove_file(&name).expect("removed");
    symlink(rig.disk(1).path(), &name).expect("a link");
    let event = next_to(&events, State::Up);
    assert_eq!(event.path.name(), name);
    assert_ne!(event.path.device(), before);
    assert_eq!(monitor.find(&name), Some(path), "the same path");
    // What it leads to now is watched; what it led to is free to be watched again.
    assert!(monitor.add(rig.disk(1).path()).is_err());
}
