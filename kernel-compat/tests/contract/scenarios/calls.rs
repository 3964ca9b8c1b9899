//! The calls of the trait themselves.

use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Release};
use pathpulse_kernel_compat::{MAX_READ_LEN, Op, OpId, Outcome, Reject, Rejected, Shutdown};

use crate::contenders::Contender;
use crate::lab::{BLOCK, LONGER, Lab, SHORT};
use crate::world::Kind;

/// A refused read comes back as it was, and has no completion.
pub(super) fn refused(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    let unknown = lab.disks[1];
    lab.backend().detach(unknown);
    let good = lab.op(0);
    let refused = |why, op| Err(Rejected { op, why });
    for len in [0, MAX_READ_LEN + 1, u32::MAX] {
        let op = Op { len, ..good };
        assert_eq!(lab.try_submit(op), refused(Reject::Invalid, op));
    }
    let op = Op {
        target: unknown,
        ..good
    };
    assert_eq!(lab.try_submit(op), refused(Reject::Invalid, op));
    let until = lab.backend().now() + SHORT;
    assert_eq!(lab.wait(until), []);
    lab.assert_answers(0);
    let deadline = lab.backend().now() + SHORT;
    assert_eq!(lab.backend().shutdown(deadline), Shutdown::Drained);
    assert_eq!(lab.try_submit(good), refused(Reject::Broken, good));
    lab.finish();
}

/// What a device has can't be cancelled on any interface: the read goes on and ends as it would.
pub(super) fn cancelled_at_the_device(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    for disk in [0, 1] {
        lab.set(disk, Behaviour::Hang);
    }
    let soon = lab.op_within(0, LONGER);
    let expiring = lab.submit(soon);
    let later = lab.op(1);
    let answered = lab.submit(later);
    lab.hold(0, 1);
    lab.hold(1, 1);
    for id in [expiring, answered] {
        lab.backend().cancel(id);
    }
    let first = lab.completions(1)[0];
    assert_eq!(first.id, expiring);
    assert_eq!(
        first.outcome,
        Outcome::Expired(contender.law.stage_with_nowait)
    );
    lab.backend().cancel(expiring);
    lab.release(1, Release::Data);
    let second = lab.completions(1)[0];
    assert_eq!(second.id, answered);
    assert_eq!(second.outcome, Outcome::Read(BLOCK));
    lab.release(0, Release::Data);
    assert_eq!(lab.completions(1)[0].outcome, Outcome::Late(Ok(BLOCK)));
    lab.finish();
}

/// Cancelling what has ended, or is ending, changes nothing and harms nobody.
pub(super) fn cancelled_too_late(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    let op = lab.op(0);
    let ended = lab.submit(op);
    assert_eq!(lab.completions(1)[0].outcome, Outcome::Read(BLOCK));
    lab.set(1, Behaviour::Delay(Duration::from_millis(20)));
    let op = lab.op(1);
    let running = lab.submit(op);
    lab.backend().cancel(ended);
    lab.backend().cancel(ended);
    let completion = lab.completions(1)[0];
    assert_eq!(completion.id, running);
    assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    lab.finish();
}

/// A wake-up ends a wait: one that is under way, and, if nobody waits, the next.
pub(super) fn waker(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op(0);
    lab.submit(op);
    lab.hold(0, 1);
    let waker = lab.backend().waker();
    waker.wake();
    waker.wake();
    let begin = lab.backend().now();
    // Without the wake-up this would last until the read's deadline.
    assert_eq!(lab.wait(op.deadline + SHORT), []);
    assert!(lab.backend().now() < op.deadline);
    // Both wake-ups were one.
    let until = lab.backend().now() + SHORT;
    assert_eq!(lab.wait(until), []);
    assert!(lab.backend().now() >= begin + SHORT);
    if contender.is_real() {
        let other = waker.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.wake();
        });
        assert_eq!(lab.wait(op.deadline + SHORT), []);
        assert!(lab.backend().now() < op.deadline);
        thread.join().expect("the waking thread");
    }
    lab.release(0, Release::Data);
    lab.completions(1);
    lab.finish();
    waker.wake();
}

/// A wait without news returns at `until`, not before and not at the deadline of a read.
pub(super) fn until(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op(0);
    lab.submit(op);
    lab.hold(0, 1);
    for _ in 0..3 {
        let until = lab.backend().now() + Duration::from_millis(20);
        assert_eq!(lab.wait(until), []);
        let now = lab.backend().now();
        assert!(now >= until && now < op.deadline);
    }
    lab.release(0, Release::Data);
    lab.completions(1);
    lab.finish();
}

/// A read whose deadline has passed before it was submitted still ends, once.
pub(super) fn overdue(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.set(0, Behaviour::Hang);
    for disk in [0, 1] {
        let op = Op {
            deadline: lab.backend().now(),
            ..lab.op(disk)
        };
        lab.submit(op);
    }
    lab.all_end();
    lab.set(0, Behaviour::Answer);
    lab.release(0, Release::Data);
    lab.settle();
    lab.assert_answers(1);
    lab.finish();
}

/// Thousands of reads, with a stale id cancelled before each: none is mistaken for another.
pub(super) fn ids_are_not_reused(contender: &'static Contender) {
    const ROUNDS: usize = 1000;
    const DISKS: usize = 4;
    let mut lab = Lab::new(contender, &[Kind::Loop; DISKS]);
    let mut stale: Vec<OpId> = Vec::new();
    for _ in 0..ROUNDS {
        for disk in 0..DISKS {
            if let Some(id) = stale.get(stale.len().wrapping_sub(DISKS * (disk + 1))) {
                lab.backend().cancel(*id);
            }
            let op = lab.op(disk);
            // The ledger checks that the id is new, and that its completion has its token.
            stale.push(lab.submit(op));
        }
        for completion in lab.completions(DISKS) {
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
    }
    lab.finish();
}
