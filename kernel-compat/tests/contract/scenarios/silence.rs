//! Disks that don't answer, or not in time.

use std::thread;

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Errno, Op, Outcome, Reject, Stage};

use crate::contenders::{Contender, Tuning};
use crate::lab::{BLOCK, LONGER, Lab, SHORT};
use crate::world::Kind;

/// Each read of a hanging disk expires at its deadline; all others are answered meanwhile.
pub(super) fn hanging(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 4]);
    for disk in [0, 1] {
        lab.set(disk, Behaviour::Hang);
        let op = lab.op_within(disk, LONGER);
        lab.submit(op);
        lab.assert_answers(2);
    }
    for completion in lab.completions(2) {
        assert_eq!(
            completion.outcome,
            Outcome::Expired(contender.law.stage_with_nowait)
        );
    }
    let stats = lab.backend().stats();
    assert_eq!((stats.in_flight, stats.stuck), (2, 2));
    lab.assert_answers(3);
    for disk in [0, 1] {
        lab.release(disk, Release::Data);
    }
    lab.completions(2);
    lab.finish();
}

pub(super) fn released_late_with_data(contender: &'static Contender) {
    released_late(contender, Release::Data, Ok(BLOCK));
}

pub(super) fn released_late_with_error(contender: &'static Contender) {
    let eio = Errno::EIO;
    released_late(contender, Release::Error(eio.raw()), Err(eio));
}

fn released_late(contender: &'static Contender, how: Release, result: Result<u32, Errno>) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op(0);
    let (id, outcome) = lab.stick(op);
    assert_eq!(outcome, Outcome::Expired(contender.law.stage_with_nowait));
    lab.assert_answers(1);
    lab.set(0, Behaviour::Answer);
    lab.release(0, how);
    let late = lab.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(result)));
    assert_eq!(lab.backend().stats().stuck, 0);
    lab.assert_answers(0);
    lab.finish();
}

/// All tags taken by others and nothing completes: a read with nowait is refused and never stuck.
pub(super) fn saturated(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.saturate(0, Load::Dead);
    for _ in 0..20 {
        let op = lab.op(0);
        assert_eq!(lab.read(op), Outcome::Failed(Errno::EAGAIN));
        lab.assert_answers(1);
    }
    lab.unsaturate(0);
    lab.assert_answers(0);
    lab.finish();
}

/// The same without nowait: whoever submits the read is blocked, and nobody else.
pub(super) fn blocked_in_submission(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop, Kind::Loop, Kind::File]);
    lab.backend().expect_blocking(2);
    lab.saturate(0, Load::Dead);
    let op = Op {
        nowait: false,
        ..lab.op_within(0, LONGER)
    };
    let id = lab.submit(op);
    lab.assert_answers(1);
    assert_eq!(
        lab.completions(1)[0].outcome,
        Outcome::Expired(Stage::Submission)
    );
    assert_eq!(lab.backend().stats().stuck, 1);
    lab.assert_answers(1);
    lab.assert_answers(2);
    lab.unsaturate(0);
    let late = lab.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(Ok(BLOCK))));
    lab.finish();
}

/// More blocked submissions than a ring has kernel threads by default (4 x CPUs): with room made for all of them, a path
/// that has nothing wrong is read all the same.
pub(super) fn many_blocked_submissions(contender: &'static Contender) {
    const BLOCKED: usize = 10;
    let mut kinds = vec![Kind::Loop; BLOCKED];
    kinds.extend([Kind::Loop, Kind::File]);
    let mut lab = Lab::new(contender, &kinds);
    lab.backend().expect_blocking(BLOCKED + 2);
    for disk in 0..BLOCKED {
        lab.saturate(disk, Load::Dead);
    }
    for disk in 0..BLOCKED {
        let op = Op {
            nowait: false,
            ..lab.op_within(disk, LONGER)
        };
        lab.submit(op);
    }
    for completion in lab.completions(BLOCKED) {
        assert_eq!(completion.outcome, Outcome::Expired(Stage::Submission));
    }
    lab.assert_answers(BLOCKED);
    lab.assert_answers(BLOCKED + 1);
    for disk in 0..BLOCKED {
        lab.unsaturate(disk);
    }
    lab.settle();
    lab.finish();
}

/// Reads that ended in time are not late because the worker looks late. They are more than a ring posts at a time
/// when it is not to wait for them.
pub(super) fn looked_at_late(contender: &'static Contender) {
    const MANY: usize = 50;
    let mut lab = Lab::new(contender, &[Kind::Loop, Kind::File]);
    for disk in [0, 1] {
        // Long enough that they are not there yet when they have been handed over.
        lab.set(disk, Behaviour::Delay(SHORT / 4));
    }
    for nth in 0..MANY {
        let op = lab.op_within(usize::from(nth == 0), LONGER);
        lab.submit(op);
    }
    let early = lab.flush();
    lab.set_aside(early);
    // Nothing happens that could be waited for: that is the point.
    thread::sleep(LONGER + LONGER / 2);
    for completion in lab.completions(MANY) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    lab.finish();
}

/// As many blocked submissions as there may be threads: a further read without nowait is refused or never started, and
/// nothing is said of its device. Once the devices answer, there are threads again.
pub(super) fn no_thread_left(contender: &'static Contender) {
    const THREADS: usize = 8;
    let mut kinds = vec![Kind::Loop; THREADS];
    kinds.push(Kind::File);
    let tuning = Tuning {
        threads: THREADS,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(contender, &kinds, tuning);
    lab.backend().expect_blocking(THREADS);
    let blocked = |lab: &mut Lab, disk| Op {
        nowait: false,
        ..lab.op_within(disk, LONGER)
    };
    for disk in 0..THREADS {
        lab.saturate(disk, Load::Dead);
    }
    for disk in 0..THREADS {
        let op = blocked(&mut lab, disk);
        lab.submit(op);
    }
    // While all threads are busy, but none is given up.
    let op = lab.op_within(THREADS, LONGER);
    lab.submit(op);
    for completion in lab.completions(THREADS + 1) {
        let expected = match completion.token == op.token {
            true => Outcome::NotStarted,
            false => Outcome::Expired(Stage::Submission),
        };
        assert_eq!(completion.outcome, expected);
    }
    // When all are given up.
    let op = lab.op_within(THREADS, LONGER);
    match lab.try_submit(op) {
        Err(refused) => assert_eq!((refused.op, refused.why), (op, Reject::Full)),
        Ok(_) => assert_eq!(lab.completions(1)[0].outcome, Outcome::NotStarted),
    }
    for disk in 0..THREADS {
        lab.unsaturate(disk);
    }
    lab.settle();
    lab.assert_answers(THREADS);
    lab.finish();
}

/// Many hanging files that take no nowait, beside others.
pub(super) fn many_hanging_files(contender: &'static Contender) {
    const HANGING: usize = 64;
    let mut kinds = vec![Kind::File; HANGING];
    kinds.extend([Kind::File, Kind::Loop]);
    let mut lab = Lab::new(contender, &kinds);
    lab.backend().expect_blocking(HANGING + 1);
    for disk in 0..HANGING {
        lab.set(disk, Behaviour::Hang);
        let op = lab.op_within(disk, LONGER);
        lab.submit(op);
    }
    for disk in [HANGING, HANGING + 1] {
        lab.assert_answers(disk);
    }
    for completion in lab.completions(HANGING) {
        assert_eq!(
            completion.outcome,
            Outcome::Expired(contender.law.stage_without_nowait)
        );
    }
    assert_eq!(lab.backend().stats().stuck, HANGING);
    for disk in [HANGING, HANGING + 1] {
        lab.assert_answers(disk);
    }
    for disk in 0..HANGING {
        lab.release(disk, Release::Data);
    }
    for completion in lab.completions(HANGING) {
        assert_eq!(completion.outcome, Outcome::Late(Ok(BLOCK)));
    }
    lab.finish();
}

/// A file system whose server has stopped reading requests: whatever the kernel asks it first, only the reads of its own
/// files wait.
pub(super) fn frozen_server(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Apart, Kind::Loop, Kind::File]);
    lab.backend().expect_blocking(2);
    lab.freeze(0);
    let patient = lab.op(0);
    let id = lab.submit(patient);
    // These would be late if they had to wait until the first is.
    lab.assert_answers(1);
    lab.assert_answers(2);
    let op = lab.op(0);
    let (_, outcome) = lab.stick(op);
    assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
    lab.assert_answers(1);
    lab.assert_answers(2);
    lab.thaw(0);
    for completion in lab.completions(2) {
        let expected = match completion.id == id {
            true => Outcome::Read(BLOCK),
            false => Outcome::Late(Ok(BLOCK)),
        };
        assert_eq!(completion.outcome, expected);
    }
    lab.finish();
}
