//! A monitor that is dropped while a healthy device has a read of it leaks nothing.

use std::time::{Duration, Instant};

use pathpulse::{Config, Monitor};
use pathpulse_faultdisk::{Behaviour, Rig, Spec, require};

const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Each monitor that does not wait for its read leaks 32 KiB.
const MONITORS: usize = 512;
/// Limit in KiB; it allows for the stacks of a few more threads, of 2 MiB each.
const KIB_MAX: u64 = MONITORS as u64 * 32 / 2;

/// Data memory of this process in KiB (proc(5), `VmData`).
fn data_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|kib| kib.parse().ok()).expect("a number")
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("readable")
        .count()
}

/// Drops this many monitors, each with a read in flight, and waits for their threads to end.
fn drop_monitors(disks: &Rig, count: usize) {
    let before = threads();
    for _ in 0..count {
        let begun = disks.counts(0).expect("known").reads;
        let monitor = Monitor::start(Config::default()).expect("a backend");
        monitor.add(disks.disk(0).path()).expect("watched");
        disks
            .wait_arrived(0, begun + 1, WAIT_LIMIT)
            .expect("a check");
        drop(monitor);
    }
    let begin = Instant::now();
    while threads() > before {
        assert!(begin.elapsed() < WAIT_LIMIT, "workers do not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_dropped_monitor_leaks_no_memory_if_its_device_is_healthy() {
    require!();
    let disks = Rig::start(&Spec::loops(1)).expect("a rig");
    let slow = Behaviour::Delay(Duration::from_millis(10));
    disks.set(0, slow).expect("set");
    // The first round makes the allocator reserve what it keeps for this many threads.
    drop_monitors(&disks, MONITORS);
    let before = data_kib();
    drop_monitors(&disks, MONITORS);
    let grown = data_kib().saturating_sub(before);
    assert!(grown < KIB_MAX, "{grown} KiB after {MONITORS} monitors");
}
