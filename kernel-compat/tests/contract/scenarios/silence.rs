//! Disks that don't answer, or not in time.

use std::thread;

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Errno, Op, Outcome, Reject, Stage};

use crate::backends::{Sizes, TestedBackend};
use crate::disks::DiskKind;
use crate::fixture::{BLOCK, Fixture, LONG_DEADLINE, SHORT_DEADLINE};

/// Each read of a hanging disk expires at its deadline. All others are answered in the meantime.
pub(super) fn hanging(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 4]);
    for disk in [0, 1] {
        fixture.set(disk, Behaviour::Hang);
        let op = fixture.op_within(disk, LONG_DEADLINE);
        fixture.submit(op);
        fixture.assert_answers(2);
    }
    for completion in fixture.completions(2) {
        assert_eq!(
            completion.outcome,
            Outcome::Expired(tested.limits.stage_with_nowait)
        );
    }
    let stats = fixture.backend().stats();
    assert_eq!((stats.in_flight, stats.stuck), (2, 2));
    fixture.assert_answers(3);
    for disk in [0, 1] {
        fixture.release(disk, Release::Data);
    }
    fixture.completions(2);
    fixture.finish();
}

pub(super) fn released_late_with_data(tested: &'static TestedBackend) {
    released_late(tested, Release::Data, Ok(BLOCK));
}

pub(super) fn released_late_with_error(tested: &'static TestedBackend) {
    let eio = Errno::EIO;
    released_late(tested, Release::Error(eio.raw()), Err(eio));
}

fn released_late(tested: &'static TestedBackend, how: Release, result: Result<u32, Errno>) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op(0);
    let (id, outcome) = fixture.submit_until_stuck(op);
    assert_eq!(outcome, Outcome::Expired(tested.limits.stage_with_nowait));
    fixture.assert_answers(1);
    fixture.set(0, Behaviour::Answer);
    fixture.release(0, how);
    let late = fixture.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(result)));
    assert_eq!(fixture.backend().stats().stuck, 0);
    fixture.assert_answers(0);
    fixture.finish();
}

/// Others have taken all tags and nothing completes. A read with nowait is refused and never stuck.
pub(super) fn saturated(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.saturate(0, Load::Dead);
    for _ in 0..20 {
        let op = fixture.op(0);
        assert_eq!(fixture.read(op), Outcome::Failed(Errno::EAGAIN));
        fixture.assert_answers(1);
    }
    fixture.unsaturate(0);
    fixture.assert_answers(0);
    fixture.finish();
}

/// The same without nowait: the thread that submits the read is blocked, and nothing else.
pub(super) fn blocked_in_submission(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop, DiskKind::Loop, DiskKind::File]);
    fixture.backend().expect_blocking(2);
    fixture.saturate(0, Load::Dead);
    let op = Op {
        nowait: false,
        ..fixture.op_within(0, LONG_DEADLINE)
    };
    let id = fixture.submit(op);
    fixture.assert_answers(1);
    assert_eq!(
        fixture.completions(1)[0].outcome,
        Outcome::Expired(Stage::Submission)
    );
    assert_eq!(fixture.backend().stats().stuck, 1);
    fixture.assert_answers(1);
    fixture.assert_answers(2);
    fixture.unsaturate(0);
    let late = fixture.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(Ok(BLOCK))));
    fixture.finish();
}

/// More blocked submissions than a ring has kernel threads by default (4 x CPUs). After
/// `expect_blocking`, a healthy path is still read.
pub(super) fn many_blocked_submissions(tested: &'static TestedBackend) {
    const BLOCKED: usize = 10;
    let mut kinds = vec![DiskKind::Loop; BLOCKED];
    kinds.extend([DiskKind::Loop, DiskKind::File]);
    let mut fixture = Fixture::new(tested, &kinds);
    fixture.backend().expect_blocking(BLOCKED + 2);
    for disk in 0..BLOCKED {
        fixture.saturate(disk, Load::Dead);
    }
    for disk in 0..BLOCKED {
        let op = Op {
            nowait: false,
            ..fixture.op_within(disk, LONG_DEADLINE)
        };
        fixture.submit(op);
    }
    for completion in fixture.completions(BLOCKED) {
        assert_eq!(completion.outcome, Outcome::Expired(Stage::Submission));
    }
    fixture.assert_answers(BLOCKED);
    fixture.assert_answers(BLOCKED + 1);
    for disk in 0..BLOCKED {
        fixture.unsaturate(disk);
    }
    fixture.wait_none_in_flight();
    fixture.finish();
}

/// Reads that ended in time are not late if the worker checks late. There are more of them than a
/// ring posts in one call that does not wait.
pub(super) fn worker_late(tested: &'static TestedBackend) {
    const MANY: usize = 50;
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop, DiskKind::File]);
    for disk in [0, 1] {
        // Long enough that they have not ended yet when they are submitted.
        fixture.set(disk, Behaviour::Delay(SHORT_DEADLINE / 4));
    }
    for nth in 0..MANY {
        let op = fixture.op_within(usize::from(nth == 0), LONG_DEADLINE);
        fixture.submit(op);
    }
    let early = fixture.flush();
    fixture.keep_for_later(early);
    // No event can be awaited here, because nothing must happen.
    thread::sleep(LONG_DEADLINE + LONG_DEADLINE / 2);
    for completion in fixture.completions(MANY) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    fixture.finish();
}

/// There are as many blocked submissions as threads. A further read without nowait is refused or
/// never started, which says nothing about its device. When the devices answer, threads are
/// available again.
pub(super) fn no_thread_left(tested: &'static TestedBackend) {
    const THREADS: usize = 8;
    let mut kinds = vec![DiskKind::Loop; THREADS];
    kinds.push(DiskKind::File);
    let sizes = Sizes {
        threads: THREADS,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(tested, &kinds, sizes);
    fixture.backend().expect_blocking(THREADS);
    let blocked = |fixture: &mut Fixture, disk| Op {
        nowait: false,
        ..fixture.op_within(disk, LONG_DEADLINE)
    };
    for disk in 0..THREADS {
        fixture.saturate(disk, Load::Dead);
    }
    for disk in 0..THREADS {
        let op = blocked(&mut fixture, disk);
        fixture.submit(op);
    }
    // All threads are busy, but none is abandoned.
    let op = fixture.op_within(THREADS, LONG_DEADLINE);
    fixture.submit(op);
    for completion in fixture.completions(THREADS + 1) {
        let expected = match completion.token == op.token {
            true => Outcome::NotStarted,
            false => Outcome::Expired(Stage::Submission),
        };
        assert_eq!(completion.outcome, expected);
    }
    // All threads are abandoned.
    let op = fixture.op_within(THREADS, LONG_DEADLINE);
    match fixture.try_submit(op) {
        Err(refused) => assert_eq!((refused.op, refused.why), (op, Reject::Full)),
        Ok(_) => assert_eq!(fixture.completions(1)[0].outcome, Outcome::NotStarted),
    }
    for disk in 0..THREADS {
        fixture.unsaturate(disk);
    }
    fixture.wait_none_in_flight();
    fixture.assert_answers(THREADS);
    fixture.finish();
}

/// Many hanging files that do not support nowait, next to others.
pub(super) fn many_hanging_files(tested: &'static TestedBackend) {
    const HANGING: usize = 64;
    let mut kinds = vec![DiskKind::File; HANGING];
    kinds.extend([DiskKind::File, DiskKind::Loop]);
    let mut fixture = Fixture::new(tested, &kinds);
    fixture.backend().expect_blocking(HANGING + 1);
    for disk in 0..HANGING {
        fixture.set(disk, Behaviour::Hang);
        let op = fixture.op_within(disk, LONG_DEADLINE);
        fixture.submit(op);
    }
    for disk in [HANGING, HANGING + 1] {
        fixture.assert_answers(disk);
    }
    for completion in fixture.completions(HANGING) {
        assert_eq!(
            completion.outcome,
            Outcome::Expired(tested.limits.stage_without_nowait)
        );
    }
    assert_eq!(fixture.backend().stats().stuck, HANGING);
    for disk in [HANGING, HANGING + 1] {
        fixture.assert_answers(disk);
    }
    for disk in 0..HANGING {
        fixture.release(disk, Release::Data);
    }
    for completion in fixture.completions(HANGING) {
        assert_eq!(completion.outcome, Outcome::Late(Ok(BLOCK)));
    }
    fixture.finish();
}

/// A file system whose server has stopped reading requests. Whatever the kernel sends it first,
/// only the reads of its own files wait.
pub(super) fn frozen_server(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(
        tested,
        &[DiskKind::OwnServer, DiskKind::Loop, DiskKind::File],
    );
    fixture.backend().expect_blocking(2);
    fixture.freeze(0);
    let no_deadline = fixture.op(0);
    let id = fixture.submit(no_deadline);
    // These would be late if they had to wait for the first read.
    fixture.assert_answers(1);
    fixture.assert_answers(2);
    let op = fixture.op(0);
    let (_, outcome) = fixture.submit_until_stuck(op);
    assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
    fixture.assert_answers(1);
    fixture.assert_answers(2);
    fixture.thaw(0);
    for completion in fixture.completions(2) {
        let expected = match completion.id == id {
            true => Outcome::Read(BLOCK),
            false => Outcome::Late(Ok(BLOCK)),
        };
        assert_eq!(completion.outcome, expected);
    }
    fixture.finish();
}
