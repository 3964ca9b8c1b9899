//! Disks that answer: promptly, late, with an error, or with too few bytes.

use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load};
use pathpulse_kernel_compat::{Errno, MAX_READ_LEN, Op, Outcome};

use crate::backends::TestedBackend;
use crate::disks::DiskKind;
use crate::fixture::{BLOCK, Fixture};

pub(super) fn healthy(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 8]);
    let begin = fixture.backend().now();
    for disk in 0..8 {
        let op = fixture.op(disk);
        fixture.submit(op);
    }
    for completion in fixture.completions(8) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        assert!(completion.at >= begin);
    }
    assert!(fixture.backend().stats().syscalls > 0);
    fixture.finish();
}

pub(super) fn lengths(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop]);
    for len in [512, BLOCK, MAX_READ_LEN] {
        let op = Op {
            len,
            ..fixture.op(0)
        };
        assert_eq!(fixture.read(op), Outcome::Read(len));
    }
    fixture.finish();
}

/// The read of a slow disk takes its time, and no other read waits for it.
pub(super) fn slow(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    let delay = Duration::from_millis(60);
    fixture.set(0, Behaviour::Delay(delay));
    let begin = fixture.backend().now();
    let slow = fixture.op(0);
    fixture.submit(slow);
    let prompt = fixture.op(1);
    fixture.submit(prompt);
    let completions = fixture.completions(2);
    assert_eq!(completions[0].token, prompt.token);
    assert_eq!(completions[1].outcome, Outcome::Read(BLOCK));
    assert!(completions[1].at.since(begin) >= delay);
    fixture.finish();
}

pub(super) fn failing(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.set(0, Behaviour::Fail(Errno::EIO.raw()));
    let op = fixture.op(0);
    assert_eq!(fixture.read(op), Outcome::Failed(Errno::EIO));
    fixture.assert_answers(1);
    fixture.finish();
}

pub(super) fn short_read(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::File]);
    for bytes in [100, 0] {
        fixture.set(0, Behaviour::Short(bytes));
        let op = fixture.op(0);
        assert_eq!(fixture.read(op), Outcome::Read(bytes));
    }
    fixture.finish();
}

/// Files that do not support RWF_NOWAIT report that, and can be read without it.
pub(super) fn without_nowait(tested: &'static TestedBackend) {
    if let Some(reason) = pathpulse_faultdisk::Zram::missing().filter(|_| tested.is_real()) {
        return crate::skip(&format!("{}::without_nowait", tested.name), &reason);
    }
    let mut fixture = Fixture::new(tested, &[DiskKind::File, DiskKind::Zram, DiskKind::Loop]);
    fixture.backend().expect_blocking(2);
    for disk in [0, 1] {
        let plain = fixture.op(disk);
        let nowait = Op {
            nowait: true,
            ..plain
        };
        assert_eq!(fixture.read(nowait), Outcome::Failed(Errno::EOPNOTSUPP));
        assert_eq!(fixture.read(plain), Outcome::Read(BLOCK));
    }
    // In one batch, with refused reads before, between and after the others.
    let mut submit = |disk, nowait| {
        let op = Op {
            nowait,
            ..fixture.op(disk)
        };
        fixture.submit(op)
    };
    let refused = [submit(0, true), submit(1, true)];
    let good = [submit(2, true), submit(1, false), submit(2, false)];
    let refused_too = submit(1, true);
    for completion in fixture.completions(6) {
        let expected = if good.contains(&completion.id) {
            Outcome::Read(BLOCK)
        } else {
            assert!(refused.contains(&completion.id) || refused_too == completion.id);
            Outcome::Failed(Errno::EOPNOTSUPP)
        };
        assert_eq!(completion.outcome, expected);
    }
    fixture.finish();
}

/// Others have taken all tags of a disk, but it works through their reads.
pub(super) fn busy(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    let answer_every = Duration::from_millis(2);
    fixture.saturate(0, Load::Busy { answer_every });
    for _ in 0..20 {
        let op = fixture.op(0);
        let outcome = fixture.read(op);
        let either = [Outcome::Read(BLOCK), Outcome::Failed(Errno::EAGAIN)];
        assert!(either.contains(&outcome), "{outcome:?}");
    }
    let waiting = Op {
        nowait: false,
        ..fixture.op(0)
    };
    assert_eq!(fixture.read(waiting), Outcome::Read(BLOCK));
    fixture.assert_answers(1);
    fixture.unsaturate(0);
    fixture.finish();
}

pub(super) fn vanished(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.assert_answers(0);
    fixture.vanish(0);
    let op = fixture.op(0);
    let outcome = fixture.read(op);
    assert!(is_gone(outcome), "{outcome:?}");
    fixture.assert_answers(1);
    fixture.finish();
}

pub(super) fn vanished_in_flight(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op(0);
    fixture.submit(op);
    fixture.hold(0, 1);
    fixture.vanish(0);
    let outcome = fixture.completions(1)[0].outcome;
    assert!(is_gone(outcome), "{outcome:?}");
    fixture.assert_answers(1);
    fixture.finish();
}

/// A device of size 0 returns no bytes. A removed device returns an error.
fn is_gone(outcome: Outcome) -> bool {
    let gone = [Errno::EIO, Errno::ENXIO, Errno::ENODEV];
    match outcome {
        Outcome::Read(bytes) => bytes == 0,
        Outcome::Failed(errno) => gone.contains(&errno),
        _ => false,
    }
}
