//! Disks that answer: at once, late, with an error, with too little.

use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load};
use pathpulse_kernel_compat::{Errno, MAX_READ_LEN, Op, Outcome};

use crate::contenders::Contender;
use crate::lab::{BLOCK, Lab};
use crate::world::Kind;

pub(super) fn healthy(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 8]);
    let begin = lab.backend().now();
    for disk in 0..8 {
        let op = lab.op(disk);
        lab.submit(op);
    }
    for completion in lab.completions(8) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        assert!(completion.at >= begin);
    }
    assert!(lab.backend().stats().syscalls > 0);
    lab.finish();
}

pub(super) fn lengths(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop]);
    for len in [512, BLOCK, MAX_READ_LEN] {
        let op = Op { len, ..lab.op(0) };
        assert_eq!(lab.read(op), Outcome::Read(len));
    }
    lab.finish();
}

/// A slow disk's read takes its time, and no other read waits for it.
pub(super) fn slow(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    let delay = Duration::from_millis(60);
    lab.set(0, Behaviour::Delay(delay));
    let begin = lab.backend().now();
    let slow = lab.op(0);
    lab.submit(slow);
    let prompt = lab.op(1);
    lab.submit(prompt);
    let completions = lab.completions(2);
    assert_eq!(completions[0].token, prompt.token);
    assert_eq!(completions[1].outcome, Outcome::Read(BLOCK));
    assert!(completions[1].at.since(begin) >= delay);
    lab.finish();
}

pub(super) fn failing(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.set(0, Behaviour::Fail(Errno::EIO.raw()));
    let op = lab.op(0);
    assert_eq!(lab.read(op), Outcome::Failed(Errno::EIO));
    lab.assert_answers(1);
    lab.finish();
}

pub(super) fn short_read(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::File]);
    for bytes in [100, 0] {
        lab.set(0, Behaviour::Short(bytes));
        let op = lab.op(0);
        assert_eq!(lab.read(op), Outcome::Read(bytes));
    }
    lab.finish();
}

/// Files that take no RWF_NOWAIT say so, and are read without.
pub(super) fn without_nowait(contender: &'static Contender) {
    if let Some(reason) = pathpulse_faultdisk::Zram::missing().filter(|_| contender.is_real()) {
        return crate::skip(&format!("{}::without_nowait", contender.name), &reason);
    }
    let mut lab = Lab::new(contender, &[Kind::File, Kind::Zram, Kind::Loop]);
    lab.backend().expect_blocking(2);
    for disk in [0, 1] {
        let plain = lab.op(disk);
        let nowait = Op {
            nowait: true,
            ..plain
        };
        assert_eq!(lab.read(nowait), Outcome::Failed(Errno::EOPNOTSUPP));
        assert_eq!(lab.read(plain), Outcome::Read(BLOCK));
    }
    // In one batch, in an order in which a refused read stands before, between and after others.
    let mut submit = |disk, nowait| {
        let op = Op {
            nowait,
            ..lab.op(disk)
        };
        lab.submit(op)
    };
    let refused = [submit(0, true), submit(1, true)];
    let good = [submit(2, true), submit(1, false), submit(2, false)];
    let refused_too = submit(1, true);
    for completion in lab.completions(6) {
        let expected = if good.contains(&completion.id) {
            Outcome::Read(BLOCK)
        } else {
            assert!(refused.contains(&completion.id) || refused_too == completion.id);
            Outcome::Failed(Errno::EOPNOTSUPP)
        };
        assert_eq!(completion.outcome, expected);
    }
    lab.finish();
}

/// A disk whose tags are all taken by others, but which works them off.
pub(super) fn busy(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    let answer_every = Duration::from_millis(2);
    lab.saturate(0, Load::Busy { answer_every });
    for _ in 0..20 {
        let op = lab.op(0);
        let outcome = lab.read(op);
        let either = [Outcome::Read(BLOCK), Outcome::Failed(Errno::EAGAIN)];
        assert!(either.contains(&outcome), "{outcome:?}");
    }
    let waiting = Op {
        nowait: false,
        ..lab.op(0)
    };
    assert_eq!(lab.read(waiting), Outcome::Read(BLOCK));
    lab.assert_answers(1);
    lab.unsaturate(0);
    lab.finish();
}

pub(super) fn vanished(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.assert_answers(0);
    lab.vanish(0);
    let op = lab.op(0);
    let outcome = lab.read(op);
    assert!(is_gone(outcome), "{outcome:?}");
    lab.assert_answers(1);
    lab.finish();
}

pub(super) fn vanished_in_flight(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op(0);
    lab.submit(op);
    lab.hold(0, 1);
    lab.vanish(0);
    let outcome = lab.completions(1)[0].outcome;
    assert!(is_gone(outcome), "{outcome:?}");
    lab.assert_answers(1);
    lab.finish();
}

/// A device of size 0 answers with nothing, one that is gone with an error.
fn is_gone(outcome: Outcome) -> bool {
    let gone = [Errno::EIO, Errno::ENXIO, Errno::ENODEV];
    match outcome {
        Outcome::Read(bytes) => bytes == 0,
        Outcome::Failed(errno) => gone.contains(&errno),
        _ => false,
    }
}
