//! Files that are attached and detached, and more files and reads than fit.

use std::io::pipe;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Errno, Mono, Op, Outcome, Reject, Shutdown, TargetId};
use rustix::event::{PollFd, PollFlags, poll};

use crate::backends::{Sizes, TestedBackend};
use crate::disks::DiskKind;
use crate::fixture::{BLOCK, Fixture, LONG_DEADLINE, SHORT_DEADLINE, TIMEOUT};

/// A target is detached with a read in flight. The read ends as usual and does not affect the
/// target that reuses the slot.
pub(super) fn detached_in_flight(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op_within(0, LONG_DEADLINE);
    let id = fixture.submit(op);
    fixture.hold(0, 1);
    fixture.backend().detach(op.target);
    fixture.disks[1] = fixture.attach(1);
    fixture.assert_answers(1);
    let expired = fixture.completions(1)[0];
    assert_eq!(expired.id, id);
    assert_eq!(
        expired.outcome,
        Outcome::Expired(tested.limits.stage_with_nowait)
    );
    assert_eq!(
        fixture.try_submit(op).map_err(|refused| refused.why),
        Err(Reject::Invalid)
    );
    fixture.assert_answers(1);
    fixture.release(0, Release::Data);
    let late = fixture.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(Ok(BLOCK))));
    fixture.finish();
}

/// A read is waiting for a thread when its target is detached. It still reads that target, not the
/// one that reused the slot in the meantime.
pub(super) fn detached_while_queued(tested: &'static TestedBackend) {
    const THREADS: usize = 8;
    const OLD: usize = THREADS;
    const NEW: usize = THREADS + 1;
    let mut kinds = vec![DiskKind::Loop; THREADS];
    kinds.extend([DiskKind::File, DiskKind::File]);
    let sizes = Sizes {
        threads: THREADS,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(tested, &kinds, sizes);
    fixture.backend().expect_blocking(THREADS);
    fixture.set(OLD, Behaviour::Fail(Errno::EIO.raw()));
    for disk in 0..THREADS {
        fixture.saturate(disk, Load::Dead);
    }
    for disk in 0..THREADS {
        let op = Op {
            nowait: false,
            ..fixture.op(disk)
        };
        fixture.submit(op);
    }
    let waiting = fixture.op(OLD);
    fixture.submit(waiting);
    assert_eq!(fixture.flush(), []);
    fixture.backend().detach(waiting.target);
    for _ in 0..3 {
        fixture.attach(NEW);
    }
    for disk in 0..THREADS {
        fixture.unsaturate(disk);
    }
    for completion in fixture.completions(THREADS + 1) {
        let expected = match completion.token == waiting.token {
            true => Outcome::Failed(Errno::EIO),
            false => Outcome::Read(BLOCK),
        };
        assert_eq!(completion.outcome, expected);
    }
    fixture.disks[OLD] = fixture.attach(OLD);
    let op = fixture.op(OLD);
    assert_eq!(fixture.read(op), Outcome::Failed(Errno::EIO));
    fixture.finish();
}

/// Detaching a target twice does not affect the one that reused its slot. A read that was queued
/// before continues.
pub(super) fn stale_targets(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    let old = fixture.disks[0];
    let op = fixture.op(0);
    fixture.submit(op);
    fixture.backend().detach(old);
    assert_eq!(fixture.completions(1)[0].outcome, Outcome::Read(BLOCK));
    fixture.disks[0] = fixture.attach(0);
    assert_ne!(fixture.disks[0], old);
    fixture.backend().detach(old);
    fixture.assert_answers(0);
    let op = Op {
        target: old,
        ..fixture.op(0)
    };
    assert!(fixture.try_submit(op).is_err());
    fixture.finish();
}

/// Targets beyond the size of a backend's file table work like the others, also when slots are
/// reused.
pub(super) fn more_files_than_the_table(tested: &'static TestedBackend) {
    const DISKS: usize = 10;
    let sizes = Sizes {
        files: 4,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(tested, &[DiskKind::Loop; DISKS], sizes);
    for round in 0..3 {
        for disk in 0..DISKS {
            let op = fixture.op(disk);
            fixture.submit(op);
        }
        for completion in fixture.completions(DISKS) {
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
        for disk in (round..DISKS).step_by(3) {
            let old = fixture.disks[disk];
            fixture.backend().detach(old);
            fixture.disks[disk] = fixture.attach(disk);
        }
    }
    // Each target reads the disk that it was attached for.
    fixture.set(7, Behaviour::Fail(5));
    for disk in 0..DISKS {
        let op = fixture.op(disk);
        let failed = matches!(fixture.read(op), Outcome::Failed(_));
        assert_eq!(failed, disk == 7, "disk {disk}");
    }
    fixture.finish();
}

/// More reads than the queue and the device's tags can take. Each is answered. A full queue refuses
/// reads, and accepts them again after a wait.
pub(super) fn a_thousand_reads_at_once(tested: &'static TestedBackend) {
    const READS: usize = 1000;
    let sizes = Sizes {
        queue: 16,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(tested, &[DiskKind::Loop], sizes);
    let mut completions = Vec::new();
    for _ in 0..READS {
        let op = Op {
            nowait: false,
            ..fixture.op(0)
        };
        while let Err(refused) = fixture.try_submit(op) {
            assert_eq!((refused.op, refused.why), (op, Reject::Full));
            completions.extend(fixture.wait(op.deadline));
        }
    }
    let rest = READS - completions.len();
    completions.extend(fixture.completions(rest));
    for completion in completions {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    fixture.finish();
}

/// A file is closed when its target is detached, whatever other reads are in flight, and when the
/// backend is shut down or dropped. The `Closing` completes when it is closed.
pub(super) fn closed_when_given_up(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op_within(0, SHORT_DEADLINE);
    fixture.submit_until_stuck(op);
    let (dropped, _) = attach_pipe(&mut fixture);
    let (given_up, target) = attach_pipe(&mut fixture);
    assert!(!is_closed(&dropped) && !is_closed(&given_up));
    let closing = fixture.backend().detach(target);
    fixture.flush();
    assert!(closing.wait(Mono::now() + TIMEOUT), "open after detach");
    assert!(is_closed(&given_up), "reported before it was closed");
    assert!(
        fixture.backend().detach(target).wait(Mono::ZERO),
        "already detached"
    );
    assert!(!is_closed(&dropped));
    fixture.release(0, Release::Data);
    fixture.wait_none_in_flight();
    fixture.flush();
    fixture.recover(0);
    fixture.drop_backend();
    assert!(
        is_closed_soon(&dropped),
        "open after the backend was dropped"
    );

    let mut fixture = Fixture::new(tested, &[DiskKind::Loop]);
    let (kept, target) = attach_pipe(&mut fixture);
    assert_eq!(fixture.shut_down(TIMEOUT), Shutdown::Drained);
    assert!(is_closed(&kept), "open after the shutdown");
    assert!(
        fixture.backend().detach(target).wait(Mono::ZERO),
        "already detached"
    );
    fixture.finish_with_stuck_reads();
}

/// A file is not closed while a read of it is in flight. The `Closing` completes afterwards.
pub(super) fn closed_after_its_reads(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop]);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op_within(0, SHORT_DEADLINE);
    let (id, _) = fixture.submit_until_stuck(op);
    let closing = fixture.backend().detach(op.target);
    fixture.flush();
    assert!(
        !closing.wait(Mono::now() + SHORT_DEADLINE),
        "the kernel holds the file"
    );
    fixture.release(0, Release::Data);
    let late = fixture.completions(1)[0];
    assert_eq!((late.id, late.outcome), (id, Outcome::Late(Ok(BLOCK))));
    fixture.flush();
    assert!(closing.wait(Mono::now() + TIMEOUT));
    fixture.finish();
}

/// Attaches the write end of a pipe. The read end detects when it is closed.
fn attach_pipe(fixture: &mut Fixture) -> (OwnedFd, TargetId) {
    let submission = fixture.tested.submission;
    let (reader, writer) = pipe().expect("a pipe");
    let target = fixture.backend().attach(writer.into(), submission);
    (reader.into(), target)
}

fn is_closed(reader: &OwnedFd) -> bool {
    is_closed_within(reader, Duration::ZERO)
}

fn is_closed_soon(reader: &OwnedFd) -> bool {
    is_closed_within(reader, TIMEOUT)
}

fn is_closed_within(reader: &OwnedFd, within: Duration) -> bool {
    let within = within.try_into().expect("a short time");
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    poll(&mut fds, Some(&within)).expect("poll");
    fds[0].revents().contains(PollFlags::HUP)
}
