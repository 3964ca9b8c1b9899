//! Each behaviour, as seen by a reader of a loop device and by a reader of a bare FUSE file.

mod common;

use std::time::{Duration, Instant};

use common::{
    BLOCK, EIO, ENODEV, TIMEOUT, open, outcome, read, read_errno, read_in_thread, read_nowait,
};
use pathpulse_faultdisk::{Behaviour, Counts, DiskSpec, FILL, Release, Rig, Spec, require};
use rustix::io::Errno;

/// Disk 0 is a loop device, disk 1 a bare file.
fn both() -> Rig {
    let mut spec = Spec::loops(2);
    spec.disks[1].loop_device = false;
    Rig::start(&spec).expect("start a rig")
}

#[test]
fn a_fresh_disk_answers_with_fill() {
    require!();
    let rig = both();
    for disk in rig.disks() {
        assert_eq!(read(&open(disk.path()), 3).expect("read"), [FILL; BLOCK]);
    }
}

#[test]
fn a_delayed_read_takes_at_least_the_delay() {
    require!();
    let rig = both();
    let delay = Duration::from_millis(30);
    for i in 0..2 {
        rig.set(i, Behaviour::Delay(delay)).expect("set");
        let begin = Instant::now();
        assert_eq!(
            read(&open(rig.disk(i).path()), 0).expect("read").len(),
            BLOCK
        );
        assert!(begin.elapsed() >= delay);
    }
}

#[test]
fn delayed_reads_do_not_queue_behind_each_other() {
    require!();
    let rig = both();
    let file = open(rig.disk(0).path());
    rig.set(0, Behaviour::Delay(Duration::from_secs(3600)))
        .expect("set");
    let late = read_in_thread(&file, 0);
    rig.wait_arrived(0, 1, TIMEOUT).expect("the read arrives");
    rig.set(0, Behaviour::Delay(Duration::from_millis(1)))
        .expect("set");
    assert_eq!(read(&file, 1).expect("read").len(), BLOCK);
    assert_eq!(rig.counts(0).expect("counts").delayed, 1);
    rig.vanish(0).expect("vanish"); // This also ends delayed reads.
    outcome(&late).expect_err("the disk is gone");
}

/// A bare file returns any errno. A loop device returns only those that a disk can have.
#[test]
fn failing_reads_carry_their_errno() {
    require!();
    const ENXIO: i32 = 6;
    const ENOLINK: i32 = 67;
    let rig = both();
    let files = [0, 1].map(|i| open(rig.disk(i).path()));
    for (errno, on_loop) in [
        (EIO, EIO),
        (ENODEV, ENODEV),
        (ENOLINK, ENOLINK),
        (ENXIO, EIO),
    ] {
        rig.set_many(&[0, 1].map(|i| (i, Behaviour::Fail(errno))))
            .expect("set");
        assert_eq!(
            files.each_ref().map(read_errno),
            [Some(on_loop), Some(errno)]
        );
    }
}

#[test]
fn invalid_errnos_are_refused() {
    require!();
    let rig = both();
    for errno in [0, -5, 512] {
        let nested = Behaviour::EveryNth {
            n: 1,
            then: Box::new(Behaviour::Fail(errno)),
        };
        for behaviour in [Behaviour::Fail(errno), nested] {
            let error = rig.set(0, behaviour).expect_err("not an errno");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
        rig.release(0, Release::Error(errno))
            .expect_err("not an errno");
    }
    read(&open(rig.disk(0).path()), 0).expect("nothing has changed");
}

#[test]
fn a_hanging_read_is_held_until_released_with_data() {
    require!();
    let rig = both();
    for i in 0..2 {
        let file = open(rig.disk(i).path());
        rig.set(i, Behaviour::Hang).expect("set");
        let reads = [read_in_thread(&file, 0), read_in_thread(&file, 1)];
        assert_eq!(rig.wait_held(i, 2, TIMEOUT).expect("both are held"), 2);
        rig.set(i, Behaviour::Answer).expect("set");
        assert_eq!(
            rig.held(i).expect("held"),
            2,
            "a new behaviour releases nothing"
        );
        assert_eq!(
            read(&file, 2)
                .expect("later reads overtake held ones")
                .len(),
            BLOCK
        );
        assert_eq!(rig.release(i, Release::Data).expect("release"), 2);
        for read in &reads {
            assert_eq!(outcome(read).expect("data"), [FILL; BLOCK]);
        }
    }
}

#[test]
fn a_hanging_read_is_held_until_released_with_an_error() {
    require!();
    let rig = both();
    for i in 0..2 {
        let file = open(rig.disk(i).path());
        rig.set(i, Behaviour::Hang).expect("set");
        let held = read_in_thread(&file, 0);
        rig.wait_held(i, 1, TIMEOUT).expect("it is held");
        assert_eq!(rig.release(i, Release::Error(EIO)).expect("release"), 1);
        assert_eq!(
            outcome(&held).expect_err("an error").raw_os_error(),
            Some(EIO)
        );
        let held = read_in_thread(&file, 0);
        rig.wait_held(i, 1, TIMEOUT).expect("the disk still hangs");
        assert_eq!(rig.recover(i).expect("recover"), 1);
        outcome(&held).expect("data");
        read(&file, 0).expect("the disk answers again");
    }
}

#[test]
fn a_dripping_disk_answers_reads_one_by_one() {
    require!();
    let rig = both();
    let file = open(rig.disk(0).path());
    rig.set(
        0,
        Behaviour::Drip {
            every: Duration::from_millis(1),
            at_once: 1,
            ends: Release::Data,
        },
    )
    .expect("set");
    let reads: Vec<_> = (0..5).map(|block| read_in_thread(&file, block)).collect();
    for read in &reads {
        outcome(read).expect("answered in its turn");
    }
    rig.set(0, Behaviour::Hang).expect("set");
    let held = read_in_thread(&file, 0);
    rig.wait_held(0, 1, TIMEOUT).expect("the drip has ended");
    rig.recover(0).expect("recover");
    outcome(&held).expect("data");
}

#[test]
fn every_third_read_fails() {
    require!();
    let rig = both();
    for i in 0..2 {
        let file = open(rig.disk(i).path());
        rig.set(
            i,
            Behaviour::EveryNth {
                n: 3,
                then: Box::new(Behaviour::Fail(EIO)),
            },
        )
        .expect("set");
        let outcomes: Vec<bool> = (0..6).map(|block| read(&file, block).is_ok()).collect();
        assert_eq!(outcomes, [true, true, false, true, true, false]);
    }
}

#[test]
fn a_short_answer_is_short_on_a_bare_file() {
    require!();
    let rig = both();
    rig.set(1, Behaviour::Short(512)).expect("set");
    assert_eq!(
        read(&open(rig.disk(1).path()), 0).expect("read"),
        [FILL; 512]
    );
    rig.set(1, Behaviour::Short(0)).expect("set");
    assert_eq!(read(&open(rig.disk(1).path()), 0).expect("read"), [0_u8; 0]);
}

/// The loop driver requests the missing rest, as long as it gets any bytes.
#[test]
fn a_short_answer_is_completed_by_the_loop_driver_and_an_empty_one_is_eio() {
    require!();
    let rig = both();
    let file = open(rig.disk(0).path());
    rig.set(0, Behaviour::Short(512)).expect("set");
    assert_eq!(read(&file, 0).expect("read"), [FILL; BLOCK]);
    assert_eq!(rig.counts(0).expect("counts").reads, (BLOCK / 512) as u64);
    rig.set(0, Behaviour::Short(0)).expect("set");
    assert_eq!(read_errno(&file), Some(EIO));
}

#[test]
fn counts_add_up() {
    require!();
    let rig = both();
    let file = open(rig.disk(0).path());
    read(&file, 0).expect("read");
    rig.set(0, Behaviour::Fail(EIO)).expect("set");
    read_errno(&file);
    rig.set(0, Behaviour::Hang).expect("set");
    let held = read_in_thread(&file, 0);
    rig.wait_held(0, 1, TIMEOUT).expect("held");
    let expected = Counts {
        reads: 3,
        answered: 1,
        failed: 1,
        held: 1,
        ..Counts::default()
    };
    assert_eq!(rig.counts(0).expect("counts"), expected);
    assert_eq!(
        rig.counts(1).expect("counts"),
        Counts::default(),
        "each disk has its own counters"
    );
    rig.recover(0).expect("recover");
    outcome(&held).expect("data");
    let expected = Counts {
        reads: 3,
        answered: 2,
        failed: 1,
        ..Counts::default()
    };
    assert_eq!(rig.counts(0).expect("counts"), expected);
}

#[test]
fn waiting_for_held_reads_reports_a_timeout() {
    require!();
    let rig = both();
    let error = rig
        .wait_held(0, 1, Duration::from_millis(1))
        .expect_err("nobody reads");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let error = rig
        .set_many(&[(0, Behaviour::Hang), (2, Behaviour::Hang)])
        .expect_err("there is no disk 2");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    read(&open(rig.disk(0).path()), 0).expect("disk 0 was not changed either");
}

#[test]
fn writes_follow_the_behaviour_and_are_read_back() {
    require!();
    use std::os::unix::fs::FileExt;
    let rig = both();
    let mut space = Vec::new();
    let data = common::aligned(&mut space);
    data.fill(7);
    for i in 0..2 {
        let path = rig.disk(i).path();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .expect("open for writing");
        file.write_all_at(data, BLOCK as u64).expect("write");
        file.sync_all().expect("fsync");
        assert_eq!(read(&open(path), 1).expect("read"), data);
        assert_eq!(read(&open(path), 2).expect("read"), [FILL; BLOCK]);
        rig.set(i, Behaviour::Fail(EIO)).expect("set");
        let failed = file.write_all_at(data, 0).and_then(|()| file.sync_all());
        assert_eq!(
            failed.expect_err("the write fails").raw_os_error(),
            Some(EIO)
        );
    }
}

#[test]
fn geometry_is_as_specified() {
    require!();
    for logical_block in [512, 4096] {
        let disk = DiskSpec {
            size_bytes: 8 << 20,
            logical_block,
            ..DiskSpec::default()
        };
        let rig = Rig::start(&Spec { disks: vec![disk] }).expect("start a rig");
        let (major, minor) = rig.disk(0).major_minor();
        let queue = format!("/sys/dev/block/{major}:{minor}/queue/logical_block_size");
        assert_eq!(
            std::fs::read_to_string(queue).expect("sysfs").trim(),
            logical_block.to_string()
        );
        assert_eq!(common::size_in_sysfs((major, minor)), Some(8 << 20));
        read(&open(rig.disk(0).path()), 0).expect("read");
    }
}

#[test]
fn a_loop_device_supports_nowait_reads_and_a_bare_file_does_not() {
    require!();
    let rig = both();
    assert_eq!(read_nowait(&open(rig.disk(0).path()), 0), Ok(BLOCK));
    assert_eq!(
        read_nowait(&open(rig.disk(1).path()), 0),
        Err(Errno::OPNOTSUPP)
    );
}
