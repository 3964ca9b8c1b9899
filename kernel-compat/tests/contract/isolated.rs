//! Targets that may block their submitter next to others, in the backends that `open_backend`
//! opens. No driver here sleeps under RWF_NOWAIT. Plain reads of disks without free tags replace
//! those that do: they also block their submitter.

use std::fs;

use libtest_mimic::Trial;
use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{
    BackendKind, Choice, Errno, KernelError, Mono, Op, Outcome, Shutdown, Stage, Submission,
    open_backend,
};

use crate::backends::{NO_LIMITS, Open, TestedBackend};
use crate::disks::DiskKind;
use crate::fixture::{Fixture, LONG_DEADLINE, SHORT_DEADLINE, TIMEOUT};

type Opened = Result<Box<dyn pathpulse_kernel_compat::Backend>, KernelError>;

fn chosen(kind: BackendKind, paths: u32) -> Opened {
    let opened = open_backend(Choice::Only(kind), paths);
    opened
        .map(|opened| opened.backend)
        .map_err(|mut tried| tried.remove(0).error)
}

macro_rules! mixed {
    ($name:literal, $kind:ident) => {
        TestedBackend {
            name: $name,
            open: Open::Real(|sizes| chosen(BackendKind::$kind, sizes.queue)),
            submission: Submission::Prompt,
            limits: NO_LIMITS,
        }
    };
}

static MIXED_BACKENDS: [TestedBackend; 3] = [
    mixed!("io_uring", IoUring),
    mixed!("aio", Aio),
    mixed!("sync", Sync),
];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |tested: &'static TestedBackend| {
        let name = format!("isolated::{}", tested.name);
        crate::on_a_new_thread(
            name,
            || tested.missing(),
            move || isolated_next_to_others(tested),
        )
    };
    MIXED_BACKENDS.iter().map(trial).collect()
}

/// Disks 0 and 1 may block their submitter, 2 and 3 do not. 0 blocks it and 2 hangs. 1 and 3 are
/// still read.
fn isolated_next_to_others(tested: &'static TestedBackend) {
    let mut fixture = Fixture::new(tested, &[DiskKind::Loop; 4]);
    for disk in [0, 1] {
        fixture.disks[disk] = fixture.attach_as(disk, Submission::MayBlock);
    }
    fixture.saturate(0, Load::Dead);
    fixture.set(2, Behaviour::Hang);
    // The device refuses a read that must not sleep.
    let op = fixture.op(0);
    assert_eq!(fixture.read(op), Outcome::Failed(Errno::EAGAIN));
    let blocked = Op {
        nowait: false,
        ..fixture.op_within(0, LONG_DEADLINE)
    };
    let blocked = fixture.submit(blocked);
    let hung = fixture.op_within(2, LONG_DEADLINE);
    let hung = fixture.submit(hung);
    for disk in [1, 3] {
        fixture.assert_answers(disk);
    }
    for completion in fixture.completions(2) {
        let stage = match completion.id == blocked {
            true => Stage::Submission,
            false => Stage::Device,
        };
        assert_eq!(completion.outcome, Outcome::Expired(stage));
        assert!([blocked, hung].contains(&completion.id));
    }
    assert!(blocked_threads() > 0, "a separate thread is blocked");
    let stats = fixture.backend().stats();
    assert_eq!((stats.in_flight, stats.stuck), (2, 2));
    for disk in [1, 3, 1, 3] {
        fixture.assert_answers(disk);
    }
    // The wait ends at `until` and at a wake-up, whatever the thread does.
    let until = Mono::now() + SHORT_DEADLINE;
    while Mono::now() < until {
        assert_eq!(fixture.wait(until), []);
    }
    fixture.backend().waker().wake();
    assert_eq!(fixture.wait(Mono::now() + TIMEOUT), []);
    assert_eq!(fixture.shut_down(SHORT_DEADLINE), Shutdown::Quarantined(2));
    fixture.unsaturate(0);
    fixture.release(2, Release::Data);
    // These reads are not reported any more, but their buffers are returned.
    assert_eq!(fixture.shut_down(TIMEOUT), Shutdown::Drained);
    let op = fixture.op(1);
    assert!(fixture.try_submit(op).is_err(), "the backend is shut down");
    fixture.finish_with_stuck_reads();
}

/// The number of reading threads of this process in D state.
fn blocked_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("this process");
    let stats = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats
        .filter(|stat| stat.contains("(pathpulse-read) D"))
        .count()
}
