//! The methods of the trait.

use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Release};
use pathpulse_kernel_compat::{MAX_READ_LEN, Op, OpId, Outcome, Reject, Rejected, Shutdown};

use crate::backends::TestedBackend;
use crate::disks::DiskKind;
use crate::fixture::{BLOCK, Fixture, LONG_DEADLINE, SHORT_DEADLINE};

/// A refused read is returned unchanged, and has no completion.
pub(super) fn refused(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    let unknown = fixture.disks[1];
    fixture.backend().detach(unknown);
    let good = fixture.op(0);
    let refused = |why, op| Err(Rejected { op, why });
    for len in [0, MAX_READ_LEN + 1, u32::MAX] {
        let op = Op { len, ..good };
        assert_eq!(fixture.try_submit(op), refused(Reject::Invalid, op));
    }
    let op = Op {
        target: unknown,
        ..good
    };
    assert_eq!(fixture.try_submit(op), refused(Reject::Invalid, op));
    let until = fixture.backend().now() + SHORT_DEADLINE;
    assert_eq!(fixture.wait(until), []);
    fixture.assert_answers(0);
    let deadline = fixture.backend().now() + SHORT_DEADLINE;
    assert_eq!(fixture.backend().shutdown(deadline), Shutdown::Drained);
    assert_eq!(fixture.try_submit(good), refused(Reject::Broken, good));
    fixture.finish();
}

/// No interface can cancel a read at a device. The read continues and ends as usual.
pub(super) fn cancelled_at_the_device(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    for disk in [0, 1] {
        fixture.set(disk, Behaviour::Hang);
    }
    let soon = fixture.op_within(0, LONG_DEADLINE);
    let expiring = fixture.submit(soon);
    let later = fixture.op(1);
    let answered = fixture.submit(later);
    fixture.hold(0, 1);
    fixture.hold(1, 1);
    for id in [expiring, answered] {
        fixture.backend().cancel(id);
    }
    let first = fixture.completions(1)[0];
    assert_eq!(first.id, expiring);
    assert_eq!(
        first.outcome,
        Outcome::Expired(tested.limits.stage_with_nowait)
    );
    fixture.backend().cancel(expiring);
    fixture.release(1, Release::Data);
    let second = fixture.completions(1)[0];
    assert_eq!(second.id, answered);
    assert_eq!(second.outcome, Outcome::Read(BLOCK));
    fixture.release(0, Release::Data);
    assert_eq!(fixture.completions(1)[0].outcome, Outcome::Late(Ok(BLOCK)));
    fixture.finish();
}

/// Cancelling a read that has ended, or is ending, has no effect.
pub(super) fn cancelled_too_late(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    let op = fixture.op(0);
    let ended = fixture.submit(op);
    assert_eq!(fixture.completions(1)[0].outcome, Outcome::Read(BLOCK));
    fixture.set(1, Behaviour::Delay(Duration::from_millis(20)));
    let op = fixture.op(1);
    let running = fixture.submit(op);
    fixture.backend().cancel(ended);
    fixture.backend().cancel(ended);
    let completion = fixture.completions(1)[0];
    assert_eq!(completion.id, running);
    assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    fixture.finish();
}

/// A wake-up ends the current wait, or the next one if nobody waits.
pub(super) fn waker(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op(0);
    fixture.submit(op);
    fixture.hold(0, 1);
    let waker = fixture.backend().waker();
    waker.wake();
    waker.wake();
    let begin = fixture.backend().now();
    // Without the wake-up this would last until the read's deadline.
    assert_eq!(fixture.wait(op.deadline + SHORT_DEADLINE), []);
    assert!(fixture.backend().now() < op.deadline);
    // Both wake-ups counted as one.
    let until = fixture.backend().now() + SHORT_DEADLINE;
    assert_eq!(fixture.wait(until), []);
    assert!(fixture.backend().now() >= begin + SHORT_DEADLINE);
    if tested.is_real() {
        let other = waker.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.wake();
        });
        assert_eq!(fixture.wait(op.deadline + SHORT_DEADLINE), []);
        assert!(fixture.backend().now() < op.deadline);
        thread.join().expect("the waking thread");
    }
    fixture.release(0, Release::Data);
    fixture.completions(1);
    fixture.finish();
    waker.wake();
}

/// A wait without completions returns at `until`: not earlier, and not at the deadline of a read.
pub(super) fn until(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op(0);
    fixture.submit(op);
    fixture.hold(0, 1);
    for _ in 0..3 {
        let until = fixture.backend().now() + Duration::from_millis(20);
        assert_eq!(fixture.wait(until), []);
        let now = fixture.backend().now();
        assert!(now >= until && now < op.deadline);
    }
    fixture.release(0, Release::Data);
    fixture.completions(1);
    fixture.finish();
}

/// A read submitted after its deadline still ends once.
pub(super) fn overdue(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.set(0, Behaviour::Hang);
    for disk in [0, 1] {
        let op = Op {
            deadline: fixture.backend().now(),
            ..fixture.op(disk)
        };
        fixture.submit(op);
    }
    fixture.wait_all_ended();
    fixture.set(0, Behaviour::Answer);
    fixture.release(0, Release::Data);
    fixture.wait_none_in_flight();
    fixture.assert_answers(1);
    fixture.finish();
}

/// Thousands of reads, with a stale id cancelled before each. No id is confused with another.
pub(super) fn ids_are_not_reused(tested: &'static TestedBackend) {
    const ROUNDS: usize = 1000;
    const DISKS: usize = 4;
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; DISKS]);
    let mut stale: Vec<OpId> = Vec::new();
    for _ in 0..ROUNDS {
        for disk in 0..DISKS {
            if let Some(id) = stale.get(stale.len().wrapping_sub(DISKS * (disk + 1))) {
                fixture.backend().cancel(*id);
            }
            let op = fixture.op(disk);
            // The end checker verifies that the id is new, and that its completion has its token.
            stale.push(fixture.submit(op));
        }
        for completion in fixture.completions(DISKS) {
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
    }
    fixture.finish();
}
