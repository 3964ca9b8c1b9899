//! A healthy check allocates nothing and costs a fraction of a system call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::{BackendKind, Choice, State, Sweep};
use pathpulse_faultdisk::PlainDisks;

const PATHS: usize = 1024;
const SWEEPS: u64 = 50;
/// Limit of table growths, by at least half each, in fifty thousand checks.
const GROWTHS: u64 = 16;

#[test]
fn healthy_checks_allocate_nothing_and_share_their_system_calls() {
    pathpulse_faultdisk::require!();
    let devices = PlainDisks::new(64, 1 << 20, Path::new("/dev/shm")).expect("loop devices");
    let paths: Vec<PathBuf> = devices
        .paths()
        .iter()
        .cycle()
        .take(PATHS)
        .cloned()
        .collect();
    let mut sweep = Sweep::new(
        &paths,
        Duration::from_secs(60),
        Choice::Only(BackendKind::IoUring),
    )
    .expect("io_uring");
    // Tables grow in the first sweeps, or when more reads than ever before are in flight at once.
    for _ in 0..3 {
        sweep.run();
    }
    let before = sweep.stats().syscalls;
    let allocated = allocation_counter::measure(|| {
        for _ in 0..SWEEPS {
            assert_eq!(sweep.run().checked, PATHS);
        }
    });
    assert!(allocated.count_total <= GROWTHS, "{allocated:?}");
    let syscalls = sweep.stats().syscalls - before;
    let checks = SWEEPS * PATHS as u64;
    assert!(
        syscalls * 10 <= checks,
        "{syscalls} system calls for {checks} checks"
    );
    assert!(sweep.status().all(|path| path.state == State::Up));
    assert_eq!(sweep.stats().unknown_completions, 0);
}
