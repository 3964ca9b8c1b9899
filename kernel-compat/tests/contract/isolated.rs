//! Targets that may block their submitter beside others, in the backends that `open_backend` opens. No driver here sleeps
//! under RWF_NOWAIT, so plain reads of disks without tags stand for those that do: they block whoever submits them.

use std::fs;

use libtest_mimic::Trial;
use pathpulse_faultdisk::{Behaviour, Load, Release};
use pathpulse_kernel_compat::{
    BackendKind, Choice, Errno, KernelError, Mono, Op, Outcome, Shutdown, Stage, Submission,
    open_backend,
};

use crate::contenders::{Contender, FREE, Open};
use crate::lab::{LONGER, Lab, PATIENCE, SHORT};
use crate::world::Kind;

type Opened = Result<Box<dyn pathpulse_kernel_compat::Backend>, KernelError>;

fn chosen(kind: BackendKind, paths: u32) -> Opened {
    let opened = open_backend(Choice::Only(kind), paths);
    opened
        .map(|opened| opened.backend)
        .map_err(|mut tried| tried.remove(0).error)
}

macro_rules! mixed {
    ($name:literal, $kind:ident) => {
        Contender {
            name: $name,
            open: Open::Real(|tuning| chosen(BackendKind::$kind, tuning.queue)),
            submission: Submission::Prompt,
            law: FREE,
        }
    };
}

static MIXED: [Contender; 3] = [
    mixed!("io_uring", IoUring),
    mixed!("aio", Aio),
    mixed!("sync", Sync),
];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |contender: &'static Contender| {
        let name = format!("isolated::{}", contender.name);
        crate::on_a_new_thread(name, || contender.missing(), move || beside(contender))
    };
    MIXED.iter().map(trial).collect()
}

/// Disks 0 and 1 may block their submitter, 2 and 3 not. 0 blocks it, 2 hangs: 1 and 3 are read all the same.
fn beside(contender: &'static Contender) {
    let mut lab = Lab::new(contender, &[Kind::Loop; 4]);
    for disk in [0, 1] {
        lab.disks[disk] = lab.attach_as(disk, Submission::MayBlock);
    }
    lab.saturate(0, Load::Dead);
    lab.set(2, Behaviour::Hang);
    // What does not sleep is said by the device, as ever.
    let op = lab.op(0);
    assert_eq!(lab.read(op), Outcome::Failed(Errno::EAGAIN));
    let blocked = Op {
        nowait: false,
        ..lab.op_within(0, LONGER)
    };
    let blocked = lab.submit(blocked);
    let hung = lab.op_within(2, LONGER);
    let hung = lab.submit(hung);
    for disk in [1, 3] {
        lab.assert_answers(disk);
    }
    for completion in lab.completions(2) {
        let stage = match completion.id == blocked {
            true => Stage::Submission,
            false => Stage::Device,
        };
        assert_eq!(completion.outcome, Outcome::Expired(stage));
        assert!([blocked, hung].contains(&completion.id));
    }
    assert!(blocked_threads() > 0, "a thread of its own is blocked");
    let stats = lab.backend().stats();
    assert_eq!((stats.in_flight, stats.stuck), (2, 2));
    for disk in [1, 3, 1, 3] {
        lab.assert_answers(disk);
    }
    // The wait ends at its time and by a wake-up, whatever the thread does.
    let until = Mono::now() + SHORT;
    while Mono::now() < until {
        assert_eq!(lab.wait(until), []);
    }
    lab.backend().waker().wake();
    assert_eq!(lab.wait(Mono::now() + PATIENCE), []);
    assert_eq!(lab.shut_down(SHORT), Shutdown::Quarantined(2));
    lab.unsaturate(0);
    lab.release(2, Release::Data);
    // Nobody hears of them any more, but their buffers come back.
    assert_eq!(lab.shut_down(PATIENCE), Shutdown::Drained);
    let op = lab.op(1);
    assert!(lab.try_submit(op).is_err(), "it is shut down");
    lab.abandon();
}

/// Threads of this process that read and are in D state.
fn blocked_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("this process");
    let stats = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats
        .filter(|stat| stat.contains("(pathpulse-read) D"))
        .count()
}
