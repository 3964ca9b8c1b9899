//! The end of a backend and of its process, with reads that the kernel does not give back.

use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Op, Outcome, Shutdown};

use crate::child::Reader;
use crate::contenders::Contender;
use crate::lab::{LONGER, Lab, PATIENCE, SHORT};
use crate::world::Kind;

pub(super) fn shutdown_when_idle(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    assert_eq!(lab.shut_down(PATIENCE), Shutdown::Drained);
    lab.abandon();
    let mut lab = Lab::new(contender, &[Kind::Loop; 2]);
    lab.set(1, Behaviour::Delay(Duration::from_millis(20)));
    for disk in [0, 1] {
        let op = lab.op(disk);
        lab.submit(op);
    }
    // Nobody hears of these reads any more, but they are waited for.
    assert_eq!(lab.shut_down(PATIENCE), Shutdown::Drained);
    lab.abandon();
}

/// Some reads past their deadline, some before, some not even with the kernel: shutdown ends by its deadline and
/// counts what the kernel keeps. Dropping the backend waits for nothing.
pub(super) fn shutdown_with_stuck_reads(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 9]);
    for disk in 0..8 {
        lab.set(disk, Behaviour::Hang);
        let op = match disk {
            0..4 => lab.op_within(disk, LONGER),
            _ => lab.op(disk),
        };
        lab.submit(op);
        lab.hold(disk, 1);
    }
    for completion in lab.completions(4) {
        assert_eq!(
            completion.outcome,
            Outcome::Expired(contender.law.stage_with_nowait)
        );
    }
    let op = lab.op(8);
    lab.submit(op);
    assert_eq!(lab.shut_down(SHORT), Shutdown::Quarantined(8));
    assert_eq!(lab.shut_down(Duration::ZERO), Shutdown::Quarantined(8));
    lab.abandon();
}

/// Dropped without a shutdown, with a blocked submission beside reads at devices. What the kernel still owns it may
/// write to later.
pub(super) fn dropped_with_stuck_reads(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop, Kind::Loop, Kind::File]);
    lab.backend().expect_blocking(2);
    for disk in [0, 2] {
        lab.set(disk, Behaviour::Hang);
        let op = lab.op(disk);
        lab.submit(op);
        lab.hold(disk, 1);
    }
    lab.saturate(1, Load::Dead);
    let blocked = Op {
        nowait: false,
        ..lab.op_within(1, SHORT)
    };
    lab.submit(blocked);
    lab.completions(1);
    let took = lab.drop_backend();
    assert!(took < Duration::from_secs(1), "dropping it took {took:?}");
    // The pages of what was freed may be anybody's now; a write into them would be seen by the allocator's users.
    lab.unsaturate(1);
    lab.release(0, Release::Data);
    lab.release(2, Release::Data);
}

/// A process that reads hanging disks and saturated ones.
fn reader_of_hanging_disks(contender: &'static Contender) -> (Lab, Reader) {
    const HANGING: usize = 100;
    const SATURATED: usize = 3;
    let lab = Lab::new(contender, &[Kind::Loop; HANGING + SATURATED]);
    for disk in 0..HANGING {
        lab.set(disk, Behaviour::Hang);
    }
    for disk in HANGING..HANGING + SATURATED {
        lab.saturate(disk, Load::Dead);
    }
    let paths: Vec<_> = (0..HANGING + SATURATED)
        .map(|disk| lab.path(disk))
        .collect();
    let mut reader = Reader::start(contender, &paths, true);
    for disk in 0..HANGING {
        lab.wait_held(disk, 1);
    }
    reader.wait_refused(SATURATED);
    let blocked = reader.states().contains(&'D');
    assert_eq!(
        blocked,
        contender.law.blocks_threads,
        "{:?}",
        reader.states()
    );
    (lab, reader)
}

/// A process that is asked to stop does so by its deadline, whatever it has read.
pub(super) fn stopped_with_stuck_reads(contender: &'static Contender) {
    let (lab, mut reader) = reader_of_hanging_disks(contender);
    let begin = Instant::now();
    reader.ask_to_stop();
    end(
        &lab,
        reader,
        begin,
        Reader::STOP_WITHIN + Duration::from_secs(2),
    );
}

/// A killed process is gone at once.
pub(super) fn killed_with_stuck_reads(contender: &'static Contender) {
    let (lab, mut reader) = reader_of_hanging_disks(contender);
    let begin = Instant::now();
    reader.kill();
    end(&lab, reader, begin, Duration::from_millis(100));
}

/// No interface lets a process end while one of its submissions is blocked: asserted, so that we hear of it if the kernel
/// ever changes. This is what reads with nowait are for.
pub(super) fn killed_with_a_blocked_submission(contender: &'static Contender) {
    let lab = Lab::new(contender, &[Kind::Loop]);
    lab.saturate(0, Load::Dead);
    let mut reader = Reader::start(contender, &[lab.path(0)], false);
    reader.wait_blocked();
    reader.kill();
    reader.wait_dying();
    assert!(!reader.has_ended());
    lab.unsaturate(0);
    reader.wait_end();
}

/// Where the kernel lets it, a process ends with its reads at the devices. Else it is a zombie that waits for these, and
/// nothing but the devices ends it: asserted, so that we hear of it if the kernel ever changes.
fn end(lab: &Lab, mut reader: Reader, begin: Instant, within: Duration) {
    if lab.contender.law.killable {
        reader.wait_end();
        let took = begin.elapsed();
        assert!(took < within, "ended after {took:?}");
        return;
    }
    reader.wait_dying();
    assert!(!reader.has_ended());
    for disk in 0..lab.disks.len() {
        lab.recover(disk);
    }
    reader.wait_end();
}
