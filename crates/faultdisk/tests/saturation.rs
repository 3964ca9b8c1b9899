//! Saturated disks: another process takes all tags, with and without progress.

mod common;

use std::thread;
use std::time::Duration;

use common::{BLOCK, EIO, TIMEOUT, open, read, read_nowait, reads_completed};
use pathpulse_faultdisk::{Behaviour, Counts, Load, Rig, Spec, require};
use rustix::io::Errno;

const BUSY: Load = Load::Busy {
    answer_every: Duration::from_millis(5),
};

/// The kernel's count of completed reads, and the disk's counters.
fn counters(rig: &Rig) -> (u64, Counts) {
    let completed = reads_completed(rig.disk(0).major_minor());
    (completed, rig.counts(0).expect("counts"))
}

#[test]
fn a_dead_saturated_disk_admits_and_completes_no_reads() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, Load::Dead).expect("saturate");
    let before = counters(&rig);
    for block in 0..200 {
        assert_eq!(read_nowait(&file, block), Err(Errno::AGAIN));
    }
    let after = counters(&rig);
    assert_eq!(before, after);
    assert!(after.1.held >= 128, "{:?}", after.1);
    assert!(rig.unsaturate(0).expect("unsaturate") >= 128);
    assert_eq!(read_nowait(&file, 0), Ok(BLOCK));
    assert_eq!(rig.held(0).expect("held"), 0);
}

#[test]
fn a_busy_saturated_disk_makes_progress_and_refuses_most_reads() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, BUSY).expect("saturate");
    // A read arrives only after another has completed, except for tags that are free at the
    // beginning.
    let completed = reads_completed(rig.disk(0).major_minor());
    let arrived = rig.counts(0).expect("counts").reads;
    rig.wait_arrived(0, arrived + 128 + 20, TIMEOUT)
        .expect("the load continues to read");
    assert!(reads_completed(rig.disk(0).major_minor()) >= completed + 20);

    let refused = (0..40)
        .filter(|&block| {
            thread::sleep(Duration::from_millis(2)); // Samples many phases of the load's cycle.
            read_nowait(&file, block) == Err(Errno::AGAIN)
        })
        .count();
    assert!(refused >= 30, "only {refused} of 40 were refused");
    rig.unsaturate(0).expect("unsaturate");
    read(&file, 0).expect("the disk answers again");
}

#[test]
fn a_busy_disk_can_become_dead_and_busy_again_but_not_be_set() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    rig.saturate(0, BUSY).expect("saturate");
    let refused = rig
        .set(0, Behaviour::Answer)
        .expect_err("a saturated disk cannot be set");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    rig.saturate(0, Load::Dead).expect("saturate dead");
    let before = rig.counts(0).expect("counts").answered;
    rig.saturate(0, BUSY).expect("saturate busy");
    let arrived = rig.counts(0).expect("counts").reads;
    rig.wait_arrived(0, arrived + 128 + 5, TIMEOUT)
        .expect("progress");
    assert!(rig.counts(0).expect("counts").answered >= before + 5);
    rig.recover(0).expect("recover ends the load too");
    rig.set(0, Behaviour::Answer)
        .expect("an unsaturated disk can be set");
}

#[test]
fn a_failing_saturated_disk_counts_failures_and_refuses_most_reads() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, Load::Dead).expect("saturate");
    let before = counters(&rig);
    let failing = Load::Failing {
        fail_every: Duration::from_millis(1),
        errno: EIO,
    };
    rig.saturate(0, failing).expect("fail");
    // Twice the number of held reads: reads fail, and their readers read again, so the tags stay
    // taken.
    rig.wait_arrived(0, before.1.reads + 256, TIMEOUT)
        .expect("the load continues to read");
    let after = rig.counts(0).expect("counts");
    assert_eq!(after.answered, before.1.answered, "not one is answered");
    assert!(after.failed >= before.1.failed + 256 - 8, "{after:?}");
    assert!(reads_completed(rig.disk(0).major_minor()) >= before.0 + 128);
    let refused = (0..40)
        .filter(|&block| {
            thread::sleep(Duration::from_millis(2)); // Samples many phases of the load's cycle.
            read_nowait(&file, block) == Err(Errno::AGAIN)
        })
        .count();
    assert!(refused >= 30, "only {refused} of 40 were refused");
    rig.unsaturate(0).expect("unsaturate");
    read(&file, 0).expect("the disk answers again");
}

#[test]
fn a_bare_file_has_no_tags_to_take() {
    require!();
    let rig = Rig::start(&Spec::files(1)).expect("start a rig");
    let error = rig.saturate(0, Load::Dead).expect_err("no loop device");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn ten_saturated_disks_can_be_shut_down() {
    require!();
    let rig = Rig::start(&Spec::loops(11)).expect("start a rig");
    for i in 0..10 {
        rig.saturate(i, if i % 2 == 0 { Load::Dead } else { BUSY })
            .expect("saturate");
    }
    let files: Vec<_> = rig.disks().iter().map(|disk| open(disk.path())).collect();
    for i in (0..10).step_by(2) {
        assert_eq!(read_nowait(&files[i], 0), Err(Errno::AGAIN), "disk {i}");
    }
    assert_eq!(
        read_nowait(&files[10], 0),
        Ok(BLOCK),
        "the last disk is not saturated"
    );
    drop(files);
    rig.shutdown().expect("shut down");
}
