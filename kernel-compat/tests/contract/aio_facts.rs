//! What only the libaio backend has: contexts of a limited size.

use std::time::Duration;
use std::{fs, thread};

use libtest_mimic::Trial;
use pathpulse_faultdisk::{Behaviour, Release};
use pathpulse_kernel_compat::{Mono, Outcome, Stage};

use crate::contenders::{CONTENDERS, Contender, Tuning};
use crate::lab::{BLOCK, Lab, PATIENCE};
use crate::world::Kind;

type Fact = (&'static str, fn(&'static Contender));

pub(crate) fn trials() -> Vec<Trial> {
    let aio = CONTENDERS.iter().find(|contender| contender.name == "aio");
    let aio = aio.expect("it is one of them");
    let facts: [Fact; 3] = [
        ("grows_from_two_to_three_thousand_paths", grows),
        ("a_small_context_drains_with_its_stuck_reads", drains),
        ("a_context_outgrown_with_a_queue_ends", ends),
    ];
    let trial = |(name, fact): Fact| {
        let name = format!("aio_facts::{name}");
        crate::on_a_new_thread(name, || aio.missing(), move || fact(aio))
    };
    facts.map(trial).into()
}

/// Attaches as many paths as are lacking, evenly to all disks.
fn attach_up_to(lab: &mut Lab, paths: usize, disks: usize) {
    while lab.disks.len() < paths {
        let disk = lab.disks.len() % disks;
        let target = lab.attach(disk);
        lab.disks.push(target);
    }
}

/// While the reads of two thousand paths are in flight, a thousand more come: all are read, the new ones at once.
fn grows(aio: &'static Contender) {
    // Each device has room for the reads of all its paths, lest some be refused for want of tags.
    const DISKS: usize = 30;
    let tuning = Tuning {
        queue: 2000,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(aio, &[Kind::Loop; DISKS], tuning);
    attach_up_to(&mut lab, 2000, DISKS);
    for disk in 0..DISKS {
        lab.set(disk, Behaviour::Hang);
    }
    for path in 0..2000 {
        let op = lab.op_at(path, path % DISKS);
        lab.submit(op);
    }
    assert_eq!(lab.flush(), []);
    for disk in 0..DISKS {
        lab.wait_held(disk, (disk..2000).step_by(DISKS).len());
        lab.set(disk, Behaviour::Answer);
    }
    attach_up_to(&mut lab, 3000, DISKS);
    for round in [2000..3000, 2500..3000] {
        let mut new = Vec::new();
        for path in round {
            let op = lab.op_at(path, path % DISKS);
            new.push(lab.submit(op));
        }
        for completion in lab.completions(new.len()) {
            assert!(new.contains(&completion.id));
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
    }
    for disk in 0..DISKS {
        lab.release(disk, Release::Data);
    }
    for completion in lab.completions(2000) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    for path in 0..3000 {
        let op = lab.op_at(path, path % DISKS);
        lab.submit(op);
    }
    for completion in lab.completions(3000) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    lab.finish();
}

/// A backend that is dropped after it has outgrown a context, with reads queued at that moment: whoever waits for the
/// contexts to drain knows which reads they hold, and ends when these do.
fn ends(aio: &'static Contender) {
    const PATHS: usize = 100;
    let tuning = Tuning {
        queue: 1,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(aio, &[Kind::Loop], tuning);
    attach_up_to(&mut lab, PATHS, 1);
    lab.set(0, Behaviour::Hang);
    for path in 0..PATHS {
        let op = lab.op_at(path, 0);
        lab.submit(op);
    }
    lab.hold(0, PATHS);
    lab.drop_backend();
    lab.release(0, Release::Data);
    // Other tests have such threads too, but none for ever.
    let begin = Mono::now();
    while threads_called("pathpulse-chore") > 0 {
        assert!(
            Mono::now().since(begin) < PATIENCE * 4,
            "a thread waits for ever"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn threads_called(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task")
        .expect("this process")
        .flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|task| task.trim() == name).count()
}

/// A context that was outgrown keeps its stuck reads, whose late ends are heard of, and keeps nobody from anything.
fn drains(aio: &'static Contender) {
    let tuning = Tuning {
        queue: 1,
        ..Tuning::default()
    };
    let mut lab = Lab::tuned(aio, &[Kind::Loop; 2], tuning);
    lab.set(0, Behaviour::Hang);
    let op = lab.op(0);
    let (stuck, outcome) = lab.stick(op);
    assert_eq!(outcome, Outcome::Expired(Stage::Device));
    for paths in [20, 60, 100] {
        attach_up_to(&mut lab, paths, 2);
        for path in (1..paths).step_by(2) {
            let op = lab.op_at(path, 1);
            lab.submit(op);
        }
        for completion in lab.completions(paths / 2) {
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
    }
    lab.release(0, Release::Data);
    let late = lab.completions(1)[0];
    assert_eq!((late.id, late.outcome), (stuck, Outcome::Late(Ok(BLOCK))));
    lab.finish();
}
