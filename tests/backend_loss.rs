//! io_uring becomes forbidden while it is in use, as in a sandbox that closes late. The checks
//! continue on the best remaining backend.
//!
//! The filter is permanent and covers the whole process, so this test has a program of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use pathpulse::{
    BackendKind, Choice, Config, Monitor, Next, PathId, Settings, State, Sweep, VerdictKind,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

const WAIT_LIMIT: Duration = Duration::from_secs(60);
const FILES: usize = 20;

/// Makes io_uring_setup, io_uring_enter and io_uring_register (425 to 427 on every architecture)
/// fail with EPERM in this process from now on.
fn forbid_io_uring() {
    let calls: BTreeMap<i64, Vec<_>> = (425..=427).map(|call| (call, vec![])).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture with filters");
    let eperm = SeccompAction::Errno(1);
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, eperm, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    apply_filter_all_threads(&program).expect("the filter is in force");
}

fn checks(monitor: &Monitor, id: PathId) -> u64 {
    monitor.path(id).expect("watched").checks.total()
}

/// Waits until all paths have had this many more good checks.
fn wait_for_good(monitor: &Monitor, ids: &[PathId], more: u64) {
    let good = |id| {
        let kind = VerdictKind::Good;
        monitor.path(id).expect("watched").checks.of(kind)
    };
    let before: Vec<u64> = ids.iter().map(|id| good(*id)).collect();
    let end = Instant::now() + WAIT_LIMIT;
    while ids
        .iter()
        .zip(&before)
        .any(|(id, before)| good(*id) < before + more)
    {
        assert!(Instant::now() < end, "the checks stopped");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn checks_continue_on_the_best_remaining_backend() {
    let config = Config {
        settings: Settings {
            interval: Duration::from_millis(50),
            ..Settings::default()
        },
        ..Config::default()
    };
    let monitor = Monitor::start(config.clone()).expect("a backend");
    if monitor.backend().kind != BackendKind::IoUring {
        return pathpulse_faultdisk::report_skip("io_uring is not available here");
    }
    let events = monitor.events(1000);
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
    let paths: Vec<_> = (0..FILES)
        .map(|n| folder.path().join(n.to_string()))
        .collect();
    for path in &paths {
        let mut file = std::fs::File::create(path).expect("a file");
        file.write_all(&[0; 1 << 16]).expect("written");
    }
    let answers = monitor.add_all(&paths, WAIT_LIMIT);
    let ids: Vec<PathId> = answers.into_iter().map(|id| id.expect("opens")).collect();
    wait_for_good(&monitor, &ids, 2);
    let since: Vec<_> = ids
        .iter()
        .map(|id| monitor.path(*id).expect("watched").since)
        .collect();

    let timeout = Duration::from_secs(5);
    let mut sweep = Sweep::new(&paths, timeout, Choice::Auto).expect("opens");
    assert_eq!(sweep.run().checked, FILES);
    let good: Vec<u64> = sweep.status().map(|path| path.checks.total()).collect();

    forbid_io_uring();
    let waiting = Instant::now();
    while monitor.backend().kind == BackendKind::IoUring {
        assert!(waiting.elapsed() < WAIT_LIMIT, "no fallback was taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for_good(&monitor, &ids, 3);
    let backend = monitor.backend();
    assert_eq!(backend.unavailable[0].kind, BackendKind::IoUring);
    assert!(backend.unavailable[0].error.to_string().contains("EPERM"));
    for (id, since) in ids.iter().zip(since) {
        let status = monitor.path(*id).expect("watched");
        assert_eq!(
            (status.state, status.since),
            (State::Up, since),
            "it stayed in its state"
        );
        assert!(checks(&monitor, *id) > 0);
    }
    while let Next::Event(event) = events.next_within(Duration::ZERO) {
        assert_eq!(event.to, State::Up, "{event:?}");
    }

    // A sweep has no thread that could open its paths again. It reports this without blocking.
    for sweeps in 1..=2 {
        assert_eq!(sweep.run().checked, FILES);
        for (path, good) in sweep.status().zip(&good) {
            assert_eq!(path.checks.of(VerdictKind::Unknown), sweeps, "{path:?}");
            assert_eq!(path.checks.total(), good + sweeps, "{path:?}");
            assert_eq!(path.state, State::Up);
        }
    }

    // A configured backend is not replaced by another one.
    let only = Choice::Only(BackendKind::IoUring);
    let refused = Monitor::start(Config {
        backend: only,
        ..config
    })
    .err()
    .expect("forbidden");
    assert!(refused.to_string().contains("EPERM"), "{refused}");
    monitor.shutdown(Duration::from_secs(1));
}
