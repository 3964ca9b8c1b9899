//! Many disks at once: the faults of one do not affect the others.

mod common;

use common::{BLOCK, TIMEOUT, open, outcome, read, read_in_thread};
use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec, require};

/// More held reads than FUSE allows by default (12), and more than one disk has tags (128).
#[test]
fn hundreds_of_held_reads_do_not_block_other_disks() {
    require!();
    let rig = Rig::start(&Spec::loops(4)).expect("start a rig");
    let mut held = Vec::new();
    for i in 0..3 {
        rig.set(i, Behaviour::Hang).expect("set");
        let file = open(rig.disk(i).path());
        held.extend((0..100).map(|block| read_in_thread(&file, block * 3)));
    }
    for i in 0..3 {
        rig.wait_held(i, 100, TIMEOUT).expect("all are held");
    }
    let free = open(rig.disk(3).path());
    for block in 0..100 {
        assert_eq!(read(&free, block).expect("read").len(), BLOCK);
    }
    for i in 0..3 {
        assert_eq!(rig.recover(i).expect("recover"), 100);
    }
    for read in &held {
        outcome(read).expect("data");
    }
}

#[test]
fn sixty_four_disks_behave_independently() {
    require!();
    let rig = Rig::start(&Spec::loops(64)).expect("start a rig");
    let behaviour = |i: usize| match i % 3 {
        0 => Behaviour::Answer,
        1 => Behaviour::Fail(common::EIO),
        _ => Behaviour::Hang,
    };
    let changes: Vec<_> = (0..64).map(|i| (i, behaviour(i))).collect();
    rig.set_many(&changes).expect("set");
    let reads: Vec<_> = rig
        .disks()
        .iter()
        .map(|disk| read_in_thread(&open(disk.path()), 0))
        .collect();
    for (i, read) in reads.iter().enumerate() {
        match i % 3 {
            0 => assert_eq!(outcome(read).expect("data").len(), BLOCK),
            1 => assert_eq!(
                outcome(read).expect_err("an error").raw_os_error(),
                Some(common::EIO)
            ),
            _ => {
                rig.wait_held(i, 1, TIMEOUT).expect("held");
                rig.release(i, Release::Data).expect("release");
                outcome(read).expect("data");
            }
        }
    }
}

#[test]
fn threads_can_use_a_rig_while_one_waits() {
    require!();
    let rig = Rig::start(&Spec::loops(1)).expect("start a rig");
    rig.set(0, Behaviour::Hang).expect("set");
    let file = open(rig.disk(0).path());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| rig.wait_held(0, 2, TIMEOUT));
        let reads = [0, 1].map(|block| {
            let read = read_in_thread(&file, block);
            rig.wait_held(0, block as usize + 1, TIMEOUT).expect("held");
            read
        });
        assert_eq!(waiter.join().expect("no panic").expect("held"), 2);
        rig.recover(0).expect("recover");
        reads
            .iter()
            .for_each(|read| drop(outcome(read).expect("data")));
    });
}

/// The supervisor dies with the thread that started it, so that thread must not be the caller of
/// `Rig::start`.
#[test]
fn a_rig_outlives_the_thread_that_started_it() {
    require!();
    let starter = std::thread::spawn(|| Rig::start(&Spec::loops(1)));
    let rig = starter.join().expect("no panic").expect("start a rig");
    read(&open(rig.disk(0).path()), 0).expect("read");
    rig.set(0, Behaviour::Hang)
        .expect("the rig accepts commands");
}
