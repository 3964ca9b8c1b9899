//! The end of a backend and of its process, with reads that the kernel does not return.

use std::time::{Duration, Instant};

use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{Op, Outcome, Shutdown};

use crate::backends::TestedBackend;
use crate::child::Reader;
use crate::disks::DiskKind;
use crate::fixture::{Fixture, LONG_DEADLINE, SHORT_DEADLINE, TIMEOUT};

pub(super) fn shutdown_when_idle(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    assert_eq!(fixture.shut_down(TIMEOUT), Shutdown::Drained);
    fixture.finish_with_stuck_reads();
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 2]);
    fixture.set(1, Behaviour::Delay(Duration::from_millis(20)));
    for disk in [0, 1] {
        let op = fixture.op(disk);
        fixture.submit(op);
    }
    // These reads are not reported any more, but the shutdown waits for them.
    assert_eq!(fixture.shut_down(TIMEOUT), Shutdown::Drained);
    fixture.finish_with_stuck_reads();
}

/// Some reads are past their deadline, some are not, and some have not reached the kernel. The
/// shutdown ends by its deadline and counts the reads that the kernel keeps. Dropping the backend
/// does not wait.
pub(super) fn shutdown_with_stuck_reads(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 9]);
    for disk in 0..8 {
        fixture.set(disk, Behaviour::Hang);
        let op = match disk {
            0..4 => fixture.op_within(disk, LONG_DEADLINE),
            _ => fixture.op(disk),
        };
        fixture.submit(op);
        fixture.hold(disk, 1);
    }
    for completion in fixture.completions(4) {
        assert_eq!(
            completion.outcome,
            Outcome::Expired(tested.limits.stage_with_nowait)
        );
    }
    let op = fixture.op(8);
    fixture.submit(op);
    assert_eq!(fixture.shut_down(SHORT_DEADLINE), Shutdown::Quarantined(8));
    assert_eq!(fixture.shut_down(Duration::ZERO), Shutdown::Quarantined(8));
    fixture.finish_with_stuck_reads();
}

/// The backend is dropped without a shutdown, with a blocked submission and reads at devices. The
/// kernel may write later to what it still owns.
pub(super) fn dropped_with_stuck_reads(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop, DiskKind::Loop, DiskKind::File]);
    fixture.backend().expect_blocking(2);
    for disk in [0, 2] {
        fixture.set(disk, Behaviour::Hang);
        let op = fixture.op(disk);
        fixture.submit(op);
        fixture.hold(disk, 1);
    }
    fixture.saturate(1, Load::Dead);
    let blocked = Op {
        nowait: false,
        ..fixture.op_within(1, SHORT_DEADLINE)
    };
    fixture.submit(blocked);
    fixture.completions(1);
    let took = fixture.drop_backend();
    assert!(took < Duration::from_secs(1), "dropping it took {took:?}");
    // Freed pages may be reused by now. Users of the allocator would notice a write into them.
    fixture.unsaturate(1);
    fixture.release(0, Release::Data);
    fixture.release(2, Release::Data);
}

/// A process that reads hanging and saturated disks.
fn reader_of_hanging_disks(tested: &'static TestedBackend) -> (Fixture, Reader) {
    const HANGING: usize = 100;
    const SATURATED: usize = 3;
    let fixture = Fixture::new(tested, &[DiskKind::Loop; HANGING + SATURATED]);
    for disk in 0..HANGING {
        fixture.set(disk, Behaviour::Hang);
    }
    for disk in HANGING..HANGING + SATURATED {
        fixture.saturate(disk, Load::Dead);
    }
    let paths: Vec<_> = (0..HANGING + SATURATED)
        .map(|disk| fixture.path(disk))
        .collect();
    let mut reader = Reader::start(tested, &paths, true);
    for disk in 0..HANGING {
        fixture.wait_held(disk, 1);
    }
    reader.wait_refused(SATURATED);
    let blocked = reader.states().contains(&'D');
    assert_eq!(
        blocked,
        tested.limits.blocks_threads,
        "{:?}",
        reader.states()
    );
    (fixture, reader)
}

/// A process that is asked to stop ends by its deadline, whatever it has read.
pub(super) fn stopped_with_stuck_reads(tested: &'static TestedBackend) {
    let (fixture, mut reader) = reader_of_hanging_disks(tested);
    let begin = Instant::now();
    reader.request_stop();
    end(
        &fixture,
        reader,
        begin,
        Reader::STOP_WITHIN + Duration::from_secs(2),
    );
}

/// A killed process ends at once.
pub(super) fn killed_with_stuck_reads(tested: &'static TestedBackend) {
    let (fixture, mut reader) = reader_of_hanging_disks(tested);
    let begin = Instant::now();
    reader.kill();
    end(&fixture, reader, begin, Duration::from_millis(100));
}

/// No interface lets a process end while one of its submissions is blocked. This is asserted to
/// detect a change of the kernel. It is the reason for reads with nowait.
pub(super) fn killed_with_a_blocked_submission(tested: &'static TestedBackend) {
    let fixture = Fixture::new(tested, &[DiskKind::Loop]);
    fixture.saturate(0, Load::Dead);
    let mut reader = Reader::start(tested, &[fixture.path(0)], false);
    reader.wait_blocked();
    reader.kill();
    reader.wait_dying();
    assert!(!reader.has_ended());
    fixture.unsaturate(0);
    reader.wait_end();
}

/// If the kernel allows it, a process ends while its reads are at the devices. Otherwise it is a
/// zombie that waits for the reads, and only the devices can end it. This is asserted to detect a
/// change of the kernel.
fn end(fixture: &Fixture, mut reader: Reader, begin: Instant, within: Duration) {
    if fixture.tested.limits.killable {
        reader.wait_end();
        let took = begin.elapsed();
        assert!(took < within, "ended after {took:?}");
        return;
    }
    reader.wait_dying();
    assert!(!reader.has_ended());
    for disk in 0..fixture.disks.len() {
        fixture.recover(disk);
    }
    reader.wait_end();
}
