//! A disk that is pulled while it is in use.

mod common;

use std::path::Path;

use common::{
    BLOCK, EIO, ENODEV, PATIENCE, open, outcome, read, read_elsewhere, read_errno, read_nowait,
};
use pathpulse_faultdisk::{Behaviour, Load, Rig, Spec, require};

#[test]
fn reads_in_flight_fail_and_later_ones_read_nothing_from_a_device_of_size_0() {
    require!();
    let rig = Rig::start(&Spec::loops(2)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.set(0, Behaviour::Hang).expect("set");
    let in_flight = read_elsewhere(&file, 0);
    rig.wait_held(0, 1, PATIENCE).expect("held");
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
        .expect_err("a vanished disk stays away");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_vanished_disk_reappears_as_another_device_and_the_old_one_stays_dead() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let early = rig.reappear(0).expect_err("it is still there");
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
fn a_device_that_nobody_has_open_is_removed_altogether() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    let (major, minor) = rig.disk(0).major_minor();
    rig.vanish(0).expect("vanish");
    let sysfs = format!("/sys/dev/block/{major}:{minor}");
    // Not at once: meanwhile a rig of another test may have been given the number.
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
    let waiting = read_elsewhere(&file, 0); // waits for a tag, or at the disk
    rig.vanish(0).expect("vanish");
    match outcome(&waiting).map_err(|error| error.raw_os_error()) {
        Ok(data) => assert!(data.is_empty(), "it came too late to be in flight"),
        Err(errno) => assert!(errno == Some(ENODEV) || errno == Some(EIO), "{errno:?}"), // EIO: got its tag too late
    }
    assert_eq!(rig.held(0).expect("held"), 0);
}

#[test]
fn a_bare_file_fails_with_enodev() {
    require!();
    let rig = Rig::start(&Spec::files(1)).expect("start a rig");
    let file = open(rig.disk(0).path());
    rig.set(0, Behaviour::Hang).expect("set");
    let in_flight = read_elsewhere(&file, 0);
    rig.wait_held(0, 1, PATIENCE).expect("held");
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
