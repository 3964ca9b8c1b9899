//! Loop devices that lie on other loop devices of the rig: what the lower one does happens to the upper one.

mod common;

use std::io::ErrorKind;

use common::{
    BLOCK, EIO, PATIENCE, eventually, open, outcome, read, read_elsewhere, read_errno, read_nowait,
};
use pathpulse_faultdisk::{Behaviour, DiskSpec, Load, Release, Rig, Spec, require};
use rustix::io::Errno;

const LOWER: usize = 0;
const UPPER: usize = 1;

fn stack() -> Rig {
    Rig::start(&Spec::stacks(1)).expect("start a rig")
}

#[test]
fn the_upper_disk_hangs_fails_and_answers_as_the_lower_one_does() {
    require!();
    let rig = stack();
    assert_eq!(rig.disk(UPPER).file(), rig.disk(LOWER).path());
    let upper = open(rig.disk(UPPER).path());
    rig.set(LOWER, Behaviour::Hang).expect("set");
    let held = read_elsewhere(&upper, 0);
    rig.wait_held(LOWER, 1, PATIENCE)
        .expect("the upper disk's read arrives at the lower disk");
    assert_eq!(rig.release(LOWER, Release::Error(EIO)).expect("release"), 1);
    assert_eq!(
        outcome(&held).expect_err("failed").raw_os_error(),
        Some(EIO)
    );
    rig.set(LOWER, Behaviour::Fail(61)).expect("set");
    assert_eq!(read_errno(&upper), Some(61), "ENODATA, through both");
    rig.recover(LOWER).expect("recover");
    assert_eq!(read_nowait(&upper, 0), Ok(BLOCK));
}

#[test]
fn tags_of_either_disk_can_be_taken() {
    require!();
    let rig = stack();
    let [lower, upper] = [LOWER, UPPER].map(|disk| open(rig.disk(disk).path()));
    rig.saturate(UPPER, Load::Dead).expect("saturate");
    assert_eq!(read_nowait(&upper, 0), Err(Errno::AGAIN));
    assert_eq!(
        read_nowait(&lower, 0),
        Err(Errno::AGAIN),
        "what the upper one was given holds the lower one's tags"
    );
    let refused = rig
        .saturate(LOWER, Load::Dead)
        .expect_err("one load per stack");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    rig.unsaturate(UPPER).expect("unsaturate");

    rig.saturate(LOWER, Load::Dead).expect("saturate");
    assert_eq!(read_nowait(&lower, 0), Err(Errno::AGAIN));
    let waits = read_elsewhere(&upper, 0);
    rig.recover(LOWER).expect("recover");
    outcome(&waits).expect("data, once the lower disk has tags");
    read(&lower, 0).expect("data");
}

#[test]
fn only_the_lower_disk_can_be_commanded_and_it_cannot_vanish() {
    require!();
    let rig = stack();
    let refused = [
        rig.set(UPPER, Behaviour::Hang).err(),
        rig.recover(UPPER).err(),
        rig.vanish(UPPER).err(),
        rig.vanish(LOWER).err(),
    ];
    for error in refused {
        assert_eq!(error.expect("refused").kind(), ErrorKind::InvalidInput);
    }
    for on in [0, 7] {
        let disk = DiskSpec {
            on: Some(on),
            ..DiskSpec::default()
        };
        let error = Rig::start(&Spec { disks: vec![disk] }).expect_err("nothing to lie on");
        assert!(error.to_string().contains("cannot lie on"), "{error}");
    }
}

#[test]
fn a_stack_that_hangs_and_is_full_is_taken_down_as_it_is() {
    require!();
    let rig = Rig::start(&Spec::stacks(2)).expect("start a rig");
    let devices: Vec<_> = rig.disks().iter().map(|d| d.path().to_owned()).collect();
    rig.saturate(2, Load::Dead).expect("saturate");
    rig.saturate(1, Load::Dead).expect("saturate");
    let waits = read_elsewhere(&open(&devices[3]), 0);
    rig.shutdown().expect("shut down");
    // Whether the read got as far as the lower disk before its end or not.
    let _ = outcome(&waits);
    assert!(eventually(|| devices.iter().all(|device| !device.exists())));
}
