//! Seeded simulations of a whole worker over a scripted backend, on a virtual clock.
//!
//! Every seed makes up a handful of paths, in groups and alone, that change their ways at random
//! (answer, delay, fail, hang, saturate, end late, be refused, find no kernel thread, vanish from
//! sysfs), and commands that add, remove, pause, hurry and change them. What must hold whatever
//! happens (`invariants.rs`) is asserted after every run, and a seed that breaks it is named:
//! `PATHPULSE_SEED=n` runs that one alone.

use std::time::Instant;

use fastrand::Rng;
use pathpulse_kernel_compat::{Errno, Reject};

use self::disk::Way;
use self::world::World;
use super::*;
use crate::health::{Cause, State, UnknownReason, Verdict, VerdictKind};
use crate::status::Event;
use pathpulse_kernel_compat::Op;

mod disk;
mod invariants;
mod properties;
mod world;

const CHECKS: u64 = 1_000_000;
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a simulation sees of a worker beyond what all see, and does to it.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(super) verdicts: Vec<(PathId, Mono, Verdict, State)>,
    pub(super) events: Vec<(PathId, Event)>,
    pub(super) checks: u64,
    /// Puts the completions of each turn in another order.
    pub(super) shuffling: Option<Rng>,
}

impl Recorder {
    pub(super) fn shuffle(&mut self, completions: &mut [Completion]) {
        if let Some(rng) = &mut self.shuffling {
            rng.shuffle(completions);
        }
    }
}

impl CheckedPath<'_> {
    pub(super) fn record_verdict(&mut self, verdict: Verdict, now: Mono) {
        let verdict = (self.path.id, now, verdict, self.path.health.state());
        self.checker.recorder.verdicts.push(verdict);
        self.checker.recorder.checks += 1;
    }
}

/// Returns how many checks there were.
fn simulate(seed: u64) -> u64 {
    let mut world = World::new(seed);
    for _ in 0..world.rng.u32(1..8) {
        world.add_any();
    }
    world.run(Duration::from_secs(20), true);
    world.assert_invariants();
    world.heal();
    world.run(Duration::from_secs(30), false);
    world.assert_invariants();
    world.assert_healed();
    world.worker.checker.recorder.checks
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures of the run")]
fn whatever_happens_the_invariants_hold() {
    let start = Instant::now();
    let one = std::env::var("PATHPULSE_SEED").ok();
    let mut seeds = match one {
        Some(seed) => {
            let seed: u64 = seed.parse().expect("PATHPULSE_SEED is a number");
            seed..seed + 1
        }
        None => 0..u64::MAX,
    };
    let (mut checks, mut last) = (0, 0);
    while checks < CHECKS
        && let Some(seed) = seeds.next()
    {
        match std::panic::catch_unwind(|| simulate(seed)) {
            Ok(made) => checks += made,
            Err(_) => panic!("failing seed: PATHPULSE_SEED={seed}"),
        }
        last = seed;
    }
    let took = start.elapsed();
    println!("{checks} checks, the last seed {last}, in {took:.1?}");
}

/// The verdict that each way has to lead to, when a disk keeps to it.
#[test]
fn every_way_leads_to_its_verdict_in_time() {
    let ways = [
        (Way::Answers, VerdictKind::Good, State::Up),
        (Way::Slow, VerdictKind::Good, State::Up),
        (Way::Fails(Errno::EIO), VerdictKind::Failed, State::Down),
        (Way::Short, VerdictKind::ShortRead, State::Down),
        (Way::Hangs, VerdictKind::TimedOut, State::Down),
        (Way::Late, VerdictKind::TimedOut, State::Down),
        // Busy brings nothing up, and takes nothing down.
        (Way::Full(true), VerdictKind::Busy, State::Pending),
        (Way::Full(false), VerdictKind::Saturated, State::Down),
        (
            Way::Refused(Reject::Full),
            VerdictKind::Unknown,
            State::Pending,
        ),
        (Way::Starved, VerdictKind::Unknown, State::Pending),
        (Way::Offline, VerdictKind::Offline, State::Down),
        (Way::Standby, VerdictKind::Standby, State::Standby),
    ];
    let mut world = World::new(1);
    let add = |(way, ..): &(Way, VerdictKind, State)| world.add(*way, None, Settings::default());
    let ids: Vec<PathId> = ways.iter().map(add).collect();
    world.run(Duration::from_secs(30), false);
    for (id, (way, kind, state)) in ids.iter().zip(ways) {
        let all = world.worker.checker.recorder.verdicts.iter();
        let mine: Vec<_> = all.filter(|v| v.0 == *id).collect();
        assert!(!mine.is_empty(), "{way:?}");
        assert!(mine[0].1 <= Mono::ZERO + TIMEOUT, "{way:?}: {}", mine[0].1);
        for verdict in &mine {
            assert_eq!((verdict.2.kind(), verdict.3), (kind, state), "{way:?}");
        }
        let paced = matches!(
            way,
            Way::Answers | Way::Fails(_) | Way::Offline | Way::Standby
        );
        // 15 intervals; those that hang or are slow for nearly an interval skip some.
        let expected = if paced { 14..=17 } else { 1..=17 };
        assert!(expected.contains(&mine.len()), "{way:?}: {}", mine.len());
        assert!(
            way != Way::Hangs || mine.len() == 1,
            "a stuck read stays alone"
        );
    }
}

#[test]
fn a_broken_backend_says_unknown_and_keeps_the_states() {
    let mut world = World::new(7);
    let id = world.add(Way::Answers, None, Settings::default());
    world.run(Duration::from_secs(5), false);
    world.worker.checker.backend.shutdown(Mono::ZERO);
    world.run(Duration::from_secs(5), false);
    let last = world.worker.checker.recorder.verdicts.last().expect("some");
    let why = UnknownReason::Broken;
    assert_eq!(
        (last.0, last.2, last.3),
        (id, Verdict::Unknown { why }, State::Up)
    );
}
