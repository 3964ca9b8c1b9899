//! Saturated disks: all tags taken by another process, with and without progress.

mod common;

use std::thread;
use std::time::Duration;

use common::{BLOCK, EIO, PATIENCE, open, read, read_nowait, reads_completed};
use pathpulse_faultdisk::{Behaviour, Counts, Load, Rig, Spec, require};
use rustix::io::Errno;

const BUSY: Load = Load::Busy {
    answer_every: Duration::from_millis(5),
};

/// Reads that the kernel counts as completed, and what the disk counts.
fn seen(rig: &Rig) -> (u64, Counts) {
    let completed = reads_completed(rig.disk(0).major_minor());
    (completed, rig.counts(0).expect("counts"))
}

#[test]
fn a_dead_saturated_disk_lets_nothing_in_and_completes_nothing() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, Load::Dead).expect("saturate");
    let before = seen(&rig);
    for block in 0..200 {
        assert_eq!(read_nowait(&file, block), Err(Errno::AGAIN));
    }
    let after = seen(&rig);
    assert_eq!(before, after);
    assert!(after.1.held >= 128, "{:?}", after.1);
    assert!(rig.unsaturate(0).expect("unsaturate") >= 128);
    assert_eq!(read_nowait(&file, 0), Ok(BLOCK));
    assert_eq!(rig.held(0).expect("held"), 0);
}

#[test]
fn a_busy_saturated_disk_makes_progress_and_lets_hardly_anything_in() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, BUSY).expect("saturate");
    // A read arrives only after another has completed, but for the tags that happen to be free at the beginning.
    let completed = reads_completed(rig.disk(0).major_minor());
    let arrived = rig.counts(0).expect("counts").reads;
    rig.wait_arrived(0, arrived + 128 + 20, PATIENCE)
        .expect("the load goes on reading");
    assert!(reads_completed(rig.disk(0).major_minor()) >= completed + 20);

    let refused = (0..40)
        .filter(|&block| {
            thread::sleep(Duration::from_millis(2)); // samples at many phases of the load's cycle
            read_nowait(&file, block) == Err(Errno::AGAIN)
        })
        .count();
    assert!(refused >= 30, "only {refused} of 40 were refused");
    rig.unsaturate(0).expect("unsaturate");
    read(&file, 0).expect("the disk answers again");
}

#[test]
fn a_busy_disk_can_die_and_come_back_but_not_be_set() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    rig.saturate(0, BUSY).expect("saturate");
    let refused = rig
        .set(0, Behaviour::Answer)
        .expect_err("its load would spin");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    rig.saturate(0, Load::Dead).expect("die");
    let before = rig.counts(0).expect("counts").answered;
    rig.saturate(0, BUSY).expect("come back");
    let arrived = rig.counts(0).expect("counts").reads;
    rig.wait_arrived(0, arrived + 128 + 5, PATIENCE)
        .expect("progress");
    assert!(rig.counts(0).expect("counts").answered >= before + 5);
    rig.recover(0).expect("recover ends the load too");
    rig.set(0, Behaviour::Answer)
        .expect("an unsaturated disk can be set");
}

#[test]
fn a_failing_saturated_disk_counts_what_fails_and_lets_hardly_anything_in() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, Load::Dead).expect("saturate");
    let before = seen(&rig);
    let failing = Load::Failing {
        fail_every: Duration::from_millis(1),
        errno: EIO,
    };
    rig.saturate(0, failing).expect("fail");
    // Twice all that it held: reads fail, and their readers read again, so that its tags stay taken.
    rig.wait_arrived(0, before.1.reads + 256, PATIENCE)
        .expect("the load goes on reading");
    let after = rig.counts(0).expect("counts");
    assert_eq!(after.answered, before.1.answered, "not one is answered");
    assert!(after.failed >= before.1.failed + 256 - 8, "{after:?}");
    assert!(reads_completed(rig.disk(0).major_minor()) >= before.0 + 128);
    let refused = (0..40)
        .filter(|&block| {
            thread::sleep(Duration::from_millis(2)); // samples at many phases of the load's cycle
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
fn ten_disks_can_be_saturated_and_taken_down_as_they_are() {
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
        "the disk beside them is free"
    );
    drop(files);
    rig.shutdown().expect("shut down");
}
