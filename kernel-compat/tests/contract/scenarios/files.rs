//! Files that come and go, and more of everything than there is room for.

use std::io::pipe;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Errno, Mono, Op, Outcome, Reject, Shutdown, TargetId};
use rustix::event::{PollFd, PollFlags, poll};

use crate::contenders::{Contender, Tuning};
use crate::lab::{BLOCK, LONGER, Lab, PATIENCE, SHORT};
use crate::world::Kind;

/// A target that is given up with a read in flight: the read ends as it would, and what takes the target's place is
/// none of its business.
pub(super) fn detached_in_flight(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op_within(0, LONGER);
    let id = lab.submit(op);
    lab.hold(0, 1);
    lab.backend().detach(op.target);
    lab.disks[1] = lab.attach(1);
    lab.assert_answers(1);
    let expired = lab.completions(1)[0];
    assert_eq!(expired.id, id);
    assert_eq!(
        expired.outcome,
        Outcome::Expired(contender.law.stage_with_nowait)
    );
    assert_eq!(
        lab.try_submit(op).map_err(|refused| refused.why),
        Err(Reject::Invalid)
    );
    lab.assert_answers(1);
    lab.release(0, Release::Data);
    let late = lab.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(Ok(BLOCK))));
    lab.finish();
}

/// A read that waits for a thread when its target is given up is one of that target all the same, and not of the one that
/// took its place meanwhile.
pub(super) fn detached_while_queued(contender: &'static Contender) {
    const THREADS: usize = 8;
    const OLD: usize = THREADS;
    const NEW: usize = THREADS + 1;
    let mut kinds = vec![Kind::Loop; THREADS];
    kinds.extend([Kind::File, Kind::File]);
    let tuning = Tuning {
        threads: THREADS,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(contender, &kinds, tuning);
    lab.backend().expect_blocking(THREADS);
    lab.set(OLD, Behaviour::Fail(Errno::EIO.raw()));
    for disk in 0..THREADS {
        lab.saturate(disk, Load::Dead);
    }
    for disk in 0..THREADS {
        let op = Op {
            nowait: false,
            ..lab.op(disk)
        };
        lab.submit(op);
    }
    let waiting = lab.op(OLD);
    lab.submit(waiting);
    assert_eq!(lab.flush(), []);
    lab.backend().detach(waiting.target);
    for _ in 0..3 {
        lab.attach(NEW);
    }
    for disk in 0..THREADS {
        lab.unsaturate(disk);
    }
    for completion in lab.completions(THREADS + 1) {
        let expected = match completion.token == waiting.token {
            true => Outcome::Failed(Errno::EIO),
            false => Outcome::Read(BLOCK),
        };
        assert_eq!(completion.outcome, expected);
    }
    lab.disks[OLD] = lab.attach(OLD);
    let op = lab.op(OLD);
    assert_eq!(lab.read(op), Outcome::Failed(Errno::EIO));
    lab.finish();
}

/// Detaching a target twice does nothing to the one that took its place. A read that was queued before goes on.
pub(super) fn stale_targets(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    let old = lab.disks[0];
    let op = lab.op(0);
    lab.submit(op);
    lab.backend().detach(old);
    assert_eq!(lab.completions(1)[0].outcome, Outcome::Read(BLOCK));
    lab.disks[0] = lab.attach(0);
    assert_ne!(lab.disks[0], old);
    lab.backend().detach(old);
    lab.assert_answers(0);
    let op = Op {
        target: old,
        ..lab.op(0)
    };
    assert!(lab.try_submit(op).is_err());
    lab.finish();
}

/// Targets beyond the room of a backend's file table work like the others, also when places change hands.
pub(super) fn more_files_than_the_table(contender: &'static Contender) {
    const DISKS: usize = 10;
    let tuning = Tuning {
        files: 4,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(contender, &[Kind::Loop; DISKS], tuning);
    for round in 0..3 {
        for disk in 0..DISKS {
            let op = lab.op(disk);
            lab.submit(op);
        }
        for completion in lab.completions(DISKS) {
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
        for disk in (round..DISKS).step_by(3) {
            let old = lab.disks[disk];
            lab.backend().detach(old);
            lab.disks[disk] = lab.attach(disk);
        }
    }
    // Each target is the disk that it was attached for.
    lab.set(7, Behaviour::Fail(5));
    for disk in 0..DISKS {
        let op = lab.op(disk);
        let failed = matches!(lab.read(op), Outcome::Failed(_));
        assert_eq!(failed, disk == 7, "disk {disk}");
    }
    lab.finish();
}

/// More reads than the queue takes, than the device has tags: each is answered. A full queue says so, and has room
/// again after a wait.
pub(super) fn a_thousand_reads_at_once(contender: &'static Contender) {
    const READS: usize = 1000;
    let tuning = Tuning {
        queue: 16,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(contender, &[Kind::Loop], tuning);
    let mut completions = Vec::new();
    for _ in 0..READS {
        let op = Op {
            nowait: false,
            ..lab.op(0)
        };
        while let Err(refused) = lab.try_submit(op) {
            assert_eq!((refused.op, refused.why), (op, Reject::Full));
            completions.extend(lab.wait(op.deadline));
        }
    }
    let rest = READS - completions.len();
    completions.extend(lab.completions(rest));
    for completion in completions {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    lab.finish();
}

/// A file is closed when its target is given up, whatever other reads are in flight, and when the backend is shut down or
/// dropped. That it is closed is told when it is.
pub(super) fn closed_when_given_up(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op_within(0, SHORT);
    lab.stick(op);
    let (dropped, _) = attach_pipe(&mut lab);
    let (given_up, target) = attach_pipe(&mut lab);
    assert!(!is_closed(&dropped) && !is_closed(&given_up));
    let closing = lab.backend().detach(target);
    lab.flush();
    assert!(
        closing.wait(Mono::now() + PATIENCE),
        "kept after its target"
    );
    assert!(is_closed(&given_up), "told too early");
    assert!(lab.backend().detach(target).wait(Mono::ZERO), "it is gone");
    assert!(!is_closed(&dropped));
    lab.release(0, Release::Data);
    lab.settle();
    lab.flush();
    lab.recover(0);
    lab.drop_backend();
    assert!(is_closed_soon(&dropped), "kept after the backend");

    let mut lab = Lab::new(contender, &[Kind::Loop]);
    let (kept, target) = attach_pipe(&mut lab);
    assert_eq!(lab.shut_down(PATIENCE), Shutdown::Drained);
    assert!(is_closed(&kept), "kept by a shutdown");
    assert!(lab.backend().detach(target).wait(Mono::ZERO), "it is gone");
    lab.abandon();
}

/// A file is not closed while a read of it is in flight, and nobody waits for it in vain.
pub(super) fn closed_after_its_reads(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop]);
    lab.set(0, Behaviour::Hang);
    let op = lab.op_within(0, SHORT);
    let (id, _) = lab.stick(op);
    let closing = lab.backend().detach(op.target);
    lab.flush();
    assert!(!closing.wait(Mono::now() + SHORT), "the kernel has it");
    lab.release(0, Release::Data);
    let late = lab.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(Ok(BLOCK))));
    lab.flush();
    assert!(closing.wait(Mono::now() + PATIENCE));
    lab.finish();
}

/// Attaches the writing end of a pipe; the reading end tells when that is closed.
fn attach_pipe(lab: &mut Lab) -> (OwnedFd, TargetId) {
    let submission = lab.contender.submission;
    let (reader, writer) = pipe().expect("a pipe");
    let target = lab.backend().attach(writer.into(), submission);
    (reader.into(), target)
}

fn is_closed(reader: &OwnedFd) -> bool {
    is_closed_within(reader, Duration::ZERO)
}

fn is_closed_soon(reader: &OwnedFd) -> bool {
    is_closed_within(reader, PATIENCE)
}

fn is_closed_within(reader: &OwnedFd, within: Duration) -> bool {
    let within = within.try_into().expect("a short time");
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    poll(&mut fds, Some(&within)).expect("poll");
    fds[0].revents().contains(PollFlags::HUP)
}
