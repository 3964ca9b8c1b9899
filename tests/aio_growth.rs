//! Thousands of paths through Linux AIO: they use no more of fs.aio-max-nr than they need, and
//! adding more delays no check.
//!
//! fs.aio-nr counts for the whole machine, so this test has a program of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pathpulse::{BackendKind, Choice, Config, Monitor, PathId, Settings, State, VerdictKind};

const WAIT_LIMIT: Duration = Duration::from_secs(120);

fn aio_nr() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/aio-nr").expect("this kernel has aio");
    text.trim().parse().expect("a number")
}

fn add(monitor: &Monitor, paths: &[PathBuf]) -> Vec<PathId> {
    let answers = monitor.add_all(paths, WAIT_LIMIT);
    answers.into_iter().map(|id| id.expect("opens")).collect()
}

/// Waits until each path has had this many good checks.
fn wait_for_good(monitor: &Monitor, ids: &[PathId], times: u64) {
    let end = Instant::now() + WAIT_LIMIT;
    for id in ids {
        let good = || {
            monitor
                .path(*id)
                .expect("watched")
                .checks
                .of(VerdictKind::Good)
        };
        while good() < times {
            assert!(Instant::now() < end, "{id:?} was good {} times", good());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn two_thousand_paths_fit_and_adding_a_thousand_delays_no_check() {
    let limit = pathpulse_kernel_compat::raise_open_files_limit();
    if limit < 4_000 {
        return pathpulse_faultdisk::report_skip("needs 4,000 open files (ulimit -n)");
    }
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
    let paths: Vec<PathBuf> = (0..3_000)
        .map(|n| folder.path().join(n.to_string()))
        .collect();
    for path in &paths {
        std::fs::write(path, [0; 4096]).expect("a file");
    }
    let before = aio_nr();
    let monitor = Monitor::start(Config {
        backend: Choice::Only(BackendKind::Aio),
        settings: Settings {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            ..Settings::default()
        },
        ..Config::default()
    })
    .expect("aio");
    let mut ids = add(&monitor, &paths[..2_000]);
    wait_for_good(&monitor, &ids, 3);
    // Contexts that were too small give their slots back, but not at once.
    let end = Instant::now() + WAIT_LIMIT;
    // Another program may give back some of its own meanwhile.
    let taken = || aio_nr().saturating_sub(before);
    while taken() > 2_200 {
        assert!(Instant::now() < end, "{} slots for 2,000 paths", taken());
        std::thread::sleep(Duration::from_millis(10));
    }
    ids.extend(add(&monitor, &paths[2_000..]));
    wait_for_good(&monitor, &ids, 5);
    for id in ids {
        let status = monitor.path(id).expect("watched");
        assert_eq!(status.state, State::Up);
        assert_eq!(
            status.checks.total(),
            status.checks.of(VerdictKind::Good),
            "{status:?}"
        );
    }
    monitor.shutdown(Duration::from_secs(1));
}
