//! Devices that are gone, or report to be, and what happens to their paths.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pathpulse::{
    Cause, Choice, Config, Event, EventStream, Monitor, Next, PathId, PathInfo, Rules, Settings,
    State,
};
use pathpulse_faultdisk::{Behaviour, Rig, Spec, require};

const INTERVAL: Duration = Duration::from_millis(50);
const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn monitor() -> Monitor {
    let forced = std::env::var("PATHPULSE_BACKEND");
    Monitor::start(Config {
        backend: forced.map_or(Choice::Auto, |name| name.parse().expect("a backend")),
        settings: Settings {
            interval: INTERVAL,
            // A path that failed for a while is up again, not marginal.
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
    let end = Instant::now() + WAIT_LIMIT;
    loop {
        let event = events.next_within(end.saturating_duration_since(Instant::now()));
        let event = event.event().expect("an event in time");
        if event.to == state && event.from != state {
            return event;
        }
    }
}

#[test]
fn a_device_that_only_reports_to_be_gone_is_checked_at_its_interval() {
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
    // One check when it is due, and one of what its name leads to then.
    assert!(
        u128::from(checks) <= 2 * intervals + 2,
        "{checks} in {intervals}"
    );
    rig.set(0, Behaviour::Answer).expect("answers");
    next_to(&events, State::Up);
}

#[test]
fn a_path_follows_its_name_to_another_device() {
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
    // A read on its way to the driver may fail with EIO; the next ones return 0 bytes.
    let end = Instant::now() + WAIT_LIMIT;
    let cause = || monitor.path(path).expect("watched").cause.name();
    while cause() != "device_gone" {
        assert!(Instant::now() < end, "{}", cause());
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(&name).expect("removed");
    symlink(rig.disk(1).path(), &name).expect("a link");
    let event = next_to(&events, State::Up);
    assert_eq!(event.path.name(), name);
    assert_ne!(event.path.device(), before);
    assert_eq!(monitor.find(&name), Some(path), "the same path");
    // The new device is watched now; the old one could be watched by another path.
    assert!(monitor.add(rig.disk(1).path()).is_err());
}

/// A bind mount of a directory, unmounted when this is dropped.
struct Bound(tempfile::TempDir);

impl Bound {
    fn to(folder: &Path) -> Bound {
        let bound = Bound(tempfile::tempdir().expect("a folder"));
        bound.mount(folder);
        bound
    }

    fn mount(&self, folder: &Path) {
        let mut command = Command::new("mount");
        command.arg("--bind").arg(folder).arg(self.0.path());
        assert!(command.status().expect("runs").success());
    }

    fn umount(&self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.umount();
    }
}

#[test]
fn a_file_is_found_again_after_its_file_system_was_remounted() {
    require!();
    let rig = Rig::start(&Spec::files(1)).expect("a rig");
    let bound = Bound::to(rig.disk(0).file().parent().expect("a folder"));
    let file = rig.disk(0).file().file_name().expect("a name");
    let name = bound.0.path().join(file);
    let monitor = monitor();
    let events = monitor.events(1000);
    let path = monitor.add(&name).expect("watched");
    next_to(&events, State::Up);
    let server =
        rustix::process::Pid::from_raw(rig.pids().server.cast_signed()).expect("a process");
    rustix::process::kill_process(server, rustix::process::Signal::KILL).expect("killed");
    next_to(&events, State::Down);
    let again = Rig::start(&Spec::files(1)).expect("a rig");
    bound.umount();
    bound.mount(again.disk(0).file().parent().expect("a folder"));
    next_to(&events, State::Up);
    assert_eq!(monitor.find(&name), Some(path), "the same path");
    drop(monitor);
}

/// Waits until the information about a path satisfies a condition.
fn wait_info(monitor: &Monitor, path: PathId, condition: impl Fn(&PathInfo) -> bool) {
    let begin = Instant::now();
    loop {
        let info = monitor.info(path).expect("watched");
        if condition(&info) {
            return;
        }
        assert!(begin.elapsed() < WAIT_LIMIT, "{info:?}");
        std::thread::sleep(INTERVAL);
    }
}

#[test]
fn a_working_path_follows_its_name_to_another_device() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("a rig");
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().join("disk");
    symlink(rig.disk(0).path(), &name).expect("a link");
    let monitor = monitor();
    let path = monitor.add(&name).expect("watched");
    let before = monitor.info(path).expect("watched").device();
    std::fs::remove_file(&name).expect("removed");
    symlink(rig.disk(1).path(), &name).expect("a link");
    wait_info(&monitor, path, |info| info.device() != before);
    // The reads go to the new device.
    rig.set(1, Behaviour::Hang).expect("hangs");
    rig.wait_held(1, 1, WAIT_LIMIT).expect("held");
    rig.recover(1).expect("recovers");
}

#[test]
fn a_name_that_leads_to_a_watched_device_is_reported_once() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("a rig");
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().join("disk");
    symlink(rig.disk(0).path(), &name).expect("a link");
    let monitor = monitor();
    let events = monitor.events(1000);
    let path = monitor.add(&name).expect("watched");
    monitor.add(rig.disk(1).path()).expect("watched");
    let before = monitor.info(path).expect("watched");
    let point_to = |disk: usize| {
        std::fs::remove_file(&name).expect("removed");
        symlink(rig.disk(disk).path(), &name).expect("a link");
    };
    point_to(1);
    wait_info(&monitor, path, |info| info.leads_elsewhere().is_some());
    let info = monitor.info(path).expect("watched");
    let description = info.leads_elsewhere().expect("it is description");
    let other = rig.disk(1).path().to_str().expect("text");
    assert!(
        description.contains(&format!("watched as {other}")),
        "{description}"
    );
    assert_eq!(
        (info.device(), monitor.paths_elsewhere()),
        (before.device(), vec![path])
    );
    // Every lookup has the same result, also the lookups after checks of a path that is down.
    rig.set(0, Behaviour::Fail(libc::EIO)).expect("fails");
    let mut reports = 0;
    let mut down_since = None;
    while down_since.is_none_or(|since: Instant| since.elapsed() < 20 * INTERVAL) {
        match events.next_within(INTERVAL) {
            Next::Event(event) if event.cause == Cause::LeadsElsewhere => {
                assert_eq!((event.from, event.detail.as_str()), (event.to, description));
                reports += 1;
            }
            Next::Event(event) if event.to == State::Down => down_since = Some(Instant::now()),
            Next::Event(_) | Next::Timeout => {}
            Next::Ended => panic!("it is still there"),
        }
    }
    assert_eq!(reports, 1);
    point_to(0);
    wait_info(&monitor, path, |info| info.leads_elsewhere().is_none());
    assert!(monitor.paths_elsewhere().is_empty());
}
