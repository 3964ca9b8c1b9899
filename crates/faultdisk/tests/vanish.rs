//! A disk that vanishes while it is in use.

mod common;

use std::path::Path;

use common::{
    BLOCK, EIO, ENODEV, TIMEOUT, open, outcome, read, read_errno, read_in_thread, read_nowait,
};
use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec, require};

#[test]
fn reads_in_flight_fail_and_later_ones_return_no_bytes() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.set(0, Behaviour::Hang).expect("set");
    let in_flight = read_in_thread(&file, 0);
    rig.wait_held(0, 1, TIMEOUT).expect("held");
    rig.vanish(0).expect("vanish");

    let errno = outcome(&in_flight)
        .expect_err("the disk is gone")
        .raw_os_error();
    assert_eq!(errno, Some(ENODEV));
    assert_eq!(
        read(&file, 0).expect("end of a device of size 0"),
        [0_u8; 0]
    );
    assert_eq!(read_nowait(&file, 0), Ok(0));
    assert_eq!(common::size_in_sysfs(rig.disk(0).major_minor()), Some(0));
    assert!(!rig.disk(0).path().exists(), "the node is gone");
    assert_eq!(
        read(&open(rig.disk(1).path()), 0)
            .expect("the other disk stays")
            .len(),
        BLOCK
    );

    let refused = rig
        .set(0, Behaviour::Answer)
        .expect_err("the disk has vanished");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_vanished_disk_reappears_as_a_new_device() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let early = rig.reappear(0).expect_err("the disk has not vanished");
    assert_eq!(early.kind(), std::io::ErrorKind::InvalidInput);
    let old = open(rig.disk(0).path());
    for _ in 0..2 {
        rig.vanish(0).expect("vanish");
        let disk = rig.reappear(0).expect("reappear");
        assert_ne!(disk.major_minor(), rig.disk(0).major_minor());
        let new = open(disk.path());
        assert_eq!(read(&new, 0).expect("it answers").len(), BLOCK);
        assert_eq!(read_nowait(&old, 0), Ok(0));
        // It is a disk like any other.
        rig.set(0, Behaviour::Fail(EIO)).expect("set");
        assert_eq!(read_errno(&new), Some(EIO));
        rig.saturate(0, Load::Dead).expect("saturate");
        rig.recover(0).expect("recover");
        assert_eq!(read(&new, 0).expect("it answers").len(), BLOCK);
    }
}

#[test]
fn a_vanished_device_is_removed_when_it_is_closed() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let (major, minor) = rig.disk(0).major_minor();
    rig.vanish(0).expect("vanish");
    let sysfs = format!("/sys/dev/block/{major}:{minor}");
    // Not at once: a rig of another test may have got the number in the meantime.
    assert!(common::eventually(
        || !Path::new(&sysfs).exists() && !rig.disk(0).path().exists()
    ));
}

#[test]
fn a_saturated_device_can_vanish_too() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.saturate(0, Load::Dead).expect("saturate");
    let waiting = read_in_thread(&file, 0); // It waits for a tag, or at the disk.
    rig.vanish(0).expect("vanish");
    match outcome(&waiting).map_err(|error| error.raw_os_error()) {
        Ok(data) => assert!(data.is_empty(), "it came too late to be in flight"),
        // EIO: it got its tag too late.
        Err(errno) => assert!(errno == Some(ENODEV) || errno == Some(EIO), "{errno:?}"),
    }
    assert_eq!(rig.held(0).expect("held"), 0);
}

#[test]
fn a_bare_file_fails_with_enodev() {
    require!();
    let rig = Rig::start(&Spec::files(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.set(0, Behaviour::Hang).expect("set");
    let in_flight = read_in_thread(&file, 0);
    rig.wait_held(0, 1, TIMEOUT).expect("held");
    rig.vanish(0).expect("vanish");
    assert_eq!(
        outcome(&in_flight).expect_err("gone").raw_os_error(),
        Some(ENODEV)
    );
    assert_eq!(read_errno(&file), Some(ENODEV));
    assert_eq!(
        std::fs::metadata(rig.disk(0).path())
            .expect("metadata")
            .len(),
        0
    );
}
