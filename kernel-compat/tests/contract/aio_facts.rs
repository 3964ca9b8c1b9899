//! Tests of what only the libaio backend has: contexts of a limited size.

use std::time::Duration;
use std::{fs, thread};

use libtest_mimic::Trial;
use pathpulse_faultdisk::{Behaviour, Release};
use pathpulse_kernel_compat::{Mono, Outcome, Stage};

use crate::backends::{BACKENDS, Sizes, TestedBackend};
use crate::disks::DiskKind;
use crate::fixture::{BLOCK, Fixture, TIMEOUT};

type Fact = (&'static str, fn(&'static TestedBackend));

pub(crate) fn trials() -> Vec<Trial> {
    let aio = BACKENDS.iter().find(|tested| tested.name == "aio");
    let aio = aio.expect("aio is in the list");
    let facts: [Fact; 3] = [
        ("grows_from_two_to_three_thousand_paths", grows),
        ("a_replaced_context_drains_with_its_stuck_reads", drains),
        ("a_context_replaced_with_queued_reads_ends", ends),
    ];
    let trial = |(name, fact): Fact| {
        let name = format!("aio_facts::{name}");
        crate::on_a_new_thread(name, || aio.missing(), move || fact(aio))
    };
    facts.map(trial).into()
}

/// Attaches paths until there are this many, evenly distributed over all disks.
fn attach_up_to(fixture: &mut Fixture, paths: usize, disks: usize) {
    while fixture.disks.len() < paths {
        let disk = fixture.disks.len() % disks;
        let target = fixture.attach(disk);
        fixture.disks.push(target);
    }
}

/// While the reads of 2000 paths are in flight, 1000 paths are added. All are read, the new ones at
/// once.
fn grows(aio: &'static TestedBackend) {
    // Enough disks that each has tags for the reads of all its paths. Otherwise some are refused.
    const DISKS: usize = 30;
    let sizes = Sizes {
        queue: 2000,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(aio, &[DiskKind::Loop; DISKS], sizes);
    attach_up_to(&mut fixture, 2000, DISKS);
    for disk in 0..DISKS {
        fixture.set(disk, Behaviour::Hang);
    }
    for path in 0..2000 {
        let op = fixture.op_on_path(path, path % DISKS);
        fixture.submit(op);
    }
    assert_eq!(fixture.flush(), []);
    for disk in 0..DISKS {
        fixture.wait_held(disk, (disk..2000).step_by(DISKS).len());
        fixture.set(disk, Behaviour::Answer);
    }
    attach_up_to(&mut fixture, 3000, DISKS);
    for round in [2000..3000, 2500..3000] {
        let mut new = Vec::new();
        for path in round {
            let op = fixture.op_on_path(path, path % DISKS);
            new.push(fixture.submit(op));
        }
        for completion in fixture.completions(new.len()) {
            assert!(new.contains(&completion.id));
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
    }
    for disk in 0..DISKS {
        fixture.release(disk, Release::Data);
    }
    for completion in fixture.completions(2000) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    for path in 0..3000 {
        let op = fixture.op_on_path(path, path % DISKS);
        fixture.submit(op);
    }
    for completion in fixture.completions(3000) {
        assert_eq!(completion.outcome, Outcome::Read(BLOCK));
    }
    fixture.finish();
}

/// A backend is dropped after it has replaced a context, with reads queued at that moment. The
/// threads that wait for the contexts to drain know which reads these hold, and end with them.
fn ends(aio: &'static TestedBackend) {
    const PATHS: usize = 100;
    let sizes = Sizes {
        queue: 1,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(aio, &[DiskKind::Loop], sizes);
    attach_up_to(&mut fixture, PATHS, 1);
    fixture.set(0, Behaviour::Hang);
    for path in 0..PATHS {
        let op = fixture.op_on_path(path, 0);
        fixture.submit(op);
    }
    fixture.hold(0, PATHS);
    fixture.drop_backend();
    fixture.release(0, Release::Data);
    // Other tests have such threads too, but all of them end.
    let begin = Mono::now();
    while threads_named("pathpulse-task") > 0 {
        assert!(
            Mono::now().since(begin) < TIMEOUT * 4,
            "a thread waits forever"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn threads_named(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task")
        .expect("this process")
        .flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|task| task.trim() == name).count()
}

/// A replaced context keeps its stuck reads. Their late ends are reported, and they block nothing.
fn drains(aio: &'static TestedBackend) {
    let sizes = Sizes {
        queue: 1,
        ..Sizes::default()
    };
    let mut fixture = Fixture::with_sizes(aio, &[DiskKind::Loop; 2], sizes);
    fixture.set(0, Behaviour::Hang);
    let op = fixture.op(0);
    let (stuck, outcome) = fixture.submit_until_stuck(op);
    assert_eq!(outcome, Outcome::Expired(Stage::Device));
    for paths in [20, 60, 100] {
        attach_up_to(&mut fixture, paths, 2);
        for path in (1..paths).step_by(2) {
            let op = fixture.op_on_path(path, 1);
            fixture.submit(op);
        }
        for completion in fixture.completions(paths / 2) {
            assert_eq!(completion.outcome, Outcome::Read(BLOCK));
        }
    }
    fixture.release(0, Release::Data);
    let late = fixture.completions(1)[0];
    assert_eq!((late.id, late.outcome), (stuck, Outcome::Late(Ok(BLOCK))));
    fixture.finish();
}
