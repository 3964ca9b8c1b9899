//! Loop devices on other loop devices of the rig: the behaviour of the lower one affects the upper
//! one.

mod common;

use std::io::ErrorKind;

use common::{
    BLOCK, EIO, TIMEOUT, eventually, open, outcome, read, read_errno, read_in_thread, read_nowait,
};
use pathpulse_faultdisk::{Behaviour, DiskSpec, Load, Release, Rig, Spec, require};
use rustix::io::Errno;

const LOWER: usize = 0;
const UPPER: usize = 1;

fn stack() -> Rig {
    Rig::start(&Spec::stacks(1)).expect("start a rig")
}

#[test]
fn the_upper_disk_behaves_like_the_lower_one() {
    require!();
    let rig = stack();
    assert_eq!(rig.disk(UPPER).file(), rig.disk(LOWER).path());
    let upper = open(rig.disk(UPPER).path());
    rig.set(LOWER, Behaviour::Hang).expect("set");
    let held = read_in_thread(&upper, 0);
    rig.wait_held(LOWER, 1, TIMEOUT)
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
        "the upper disk's reads hold the lower disk's tags"
    );
    let refused = rig
        .saturate(LOWER, Load::Dead)
        .expect_err("one load per stack");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    rig.unsaturate(UPPER).expect("unsaturate");

    rig.saturate(LOWER, Load::Dead).expect("saturate");
    assert_eq!(read_nowait(&lower, 0), Err(Errno::AGAIN));
    let waits = read_in_thread(&upper, 0);
    rig.recover(LOWER).expect("recover");
    outcome(&waits).expect("data, once the lower disk has tags");
    read(&lower, 0).expect("data");
}

#[test]
fn only_the_lower_disk_accepts_commands_and_it_cannot_vanish() {
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
        let error = Rig::start(&Spec { disks: vec![disk] }).expect_err("no earlier disk");
        assert!(error.to_string().contains("cannot lie on"), "{error}");
    }
}

#[test]
fn a_hanging_saturated_stack_can_be_shut_down() {
    require!();
    let rig = Rig::start(&Spec::stacks(2)).expect("start a rig");
    let devices: Vec<_> = rig.disks().iter().map(|d| d.path().to_owned()).collect();
    rig.saturate(2, Load::Dead).expect("saturate");
    rig.saturate(1, Load::Dead).expect("saturate");
    let waits = read_in_thread(&open(&devices[3]), 0);
    rig.shutdown().expect("shut down");
    // The read may or may not have reached the lower disk before the end.
    let _ = outcome(&waits);
    assert!(eventually(|| devices.iter().all(|device| !device.exists())));
}
