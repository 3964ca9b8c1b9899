//! Checks every row of the tables in `health/state.rs` by enumeration, and some longer sequences.

use super::*;
use crate::health::{Backpressure, UnknownReason};
use pathpulse_kernel_compat::Stage;

const GOOD: Verdict = Verdict::Good {
    latency: Duration::from_micros(80),
};
const FAILED: Verdict = Verdict::Failed { errno: Errno::EIO };
const UNKNOWN: Verdict = Verdict::Unknown {
    why: UnknownReason::NotStarted,
};
const ALL: [Verdict; 9] = [
    GOOD,
    Verdict::Busy,
    FAILED,
    Verdict::ShortRead { got: 0 },
    Verdict::TimedOut {
        stage: Stage::Device,
    },
    Verdict::Saturated(Backpressure::NoProgress),
    Verdict::Offline,
    Verdict::Standby,
    UNKNOWN,
];

fn at(seconds: u64) -> Mono {
    Mono::ZERO + Duration::from_secs(seconds)
}

/// An input of the state machine: a verdict, or a comparison with the peers.
#[derive(Clone, Copy, Debug)]
enum Step {
    Verdict(Verdict),
    Compared { slow: bool },
}

/// The state that the module's table demands after these steps, one second apart, computed from the
/// whole sequence.
fn expected(steps: &[Step], rules: &Rules) -> State {
    let mut state = State::Pending;
    let (mut falls, mut impairment, mut slow) = (Vec::new(), None, false);
    for (now, step) in steps.iter().enumerate() {
        let verdict = match step {
            Step::Compared { slow: found } => {
                slow = *found && matches!(state, State::Up | State::Marginal);
                if slow {
                    impairment = Some(now);
                    state = State::Marginal;
                }
                continue;
            }
            Step::Verdict(verdict) => verdict,
        };
        let run = |effect| trailing_run(&steps[..=now], effect);
        match effect_of(verdict) {
            Effect::None | Effect::KeepsUp => {}
            Effect::Standby => state = State::Standby,
            Effect::Bad => {
                impairment = Some(now);
                if state != State::Down && run(Effect::Bad) >= rules.fall {
                    falls.extend(matches!(state, State::Up | State::Marginal).then_some(now));
                    (state, slow) = (State::Down, false);
                }
            }
            Effect::Good if state == State::Down && run(Effect::Good) < rules.rise => {}
            Effect::Good => {
                let recovery = rules.recovery.as_secs() as usize;
                let clean = !slow && impairment.is_none_or(|then| now - then >= recovery);
                let window = rules.flap_window.as_secs() as usize;
                let recent = falls.iter().filter(|fall| now - **fall <= window).count() as u32;
                let flaps = rules.flaps > 0 && recent > rules.flaps;
                let fails = bad_in(&steps[..=now]) * 10 > rules.marginal_errors_per_mille;
                state = match (clean, flaps || fails || slow, state) {
                    (true, ..) => State::Up,
                    (false, true, _) | (false, false, State::Marginal) => State::Marginal,
                    (false, false, _) => State::Up,
                };
            }
        }
    }
    state
}

fn effects(steps: &[Step]) -> impl DoubleEndedIterator<Item = Effect> {
    let verdicts = steps.iter().filter_map(|step| match step {
        Step::Verdict(verdict) => Some(effect_of(verdict)),
        Step::Compared { .. } => None,
    });
    verdicts.filter(|effect| !matches!(effect, Effect::None | Effect::KeepsUp))
}

fn trailing_run(steps: &[Step], effect: Effect) -> u32 {
    let tail = effects(steps).rev();
    tail.take_while(|of| *of == effect).count() as u32
}

/// Number of bad verdicts. Fewer than a hundred verdicts are all in the window.
fn bad_in(steps: &[Step]) -> u32 {
    effects(steps)
        .filter(|effect| *effect == Effect::Bad)
        .count() as u32
}

/// Applies all sequences of length `len` over these steps, and compares with the table after each
/// step.
fn enumerate(steps: &[Step], len: u32, rules: &Rules) {
    for sequence in 0..steps.len().pow(len) {
        let sequence: Vec<Step> = (0..len)
            .map(|place| steps[sequence / steps.len().pow(place) % steps.len()])
            .collect();
        let mut health = Health::default();
        for (index, step) in sequence.iter().enumerate() {
            let before = health.state();
            let change = match step {
                Step::Verdict(verdict) => health.apply(verdict, at(index as u64), rules),
                Step::Compared { slow } => health.set_slow(*slow, at(index as u64)),
            };
            let after = health.state();
            assert_eq!(
                after,
                expected(&sequence[..=index], rules),
                "{rules:?} {sequence:?}"
            );
            assert_eq!(change.is_some(), before != after);
            if let Some(change) = change {
                assert_eq!((change.from, change.to), (before, after));
                assert_eq!(change.cause, health.cause());
                assert_fits(change, step);
            }
        }
    }
}

/// Checks a change against the table of causes.
fn assert_fits(change: Transition, step: &Step) {
    let by_comparison = [Cause::ErrorRate, Cause::Flapping, Cause::Slow];
    match (change.to, step) {
        (State::Marginal, _) => assert!(by_comparison.contains(&change.cause), "{change:?}"),
        (_, Step::Verdict(verdict)) => assert_eq!(change.cause, Cause::from(verdict)),
        (_, Step::Compared { .. }) => panic!("{change:?}"),
    }
}

#[test]
fn every_short_sequence_of_verdicts_follows_the_table() {
    let quiet = Rules {
        marginal_errors_per_mille: 1000,
        flaps: 0,
        ..Rules::default()
    };
    for (fall, rise) in [(1, 2), (2, 1), (3, 3), (1, 1)] {
        let rules = Rules {
            fall,
            rise,
            ..quiet
        };
        enumerate(&ALL.map(Step::Verdict), 5, &rules);
    }
}

#[test]
fn every_short_sequence_with_impairments_follows_the_table() {
    let steps = [
        Step::Verdict(GOOD),
        Step::Verdict(FAILED),
        Step::Verdict(Verdict::Standby),
        Step::Verdict(UNKNOWN),
        Step::Compared { slow: true },
        Step::Compared { slow: false },
    ];
    let quick = Rules {
        recovery: Duration::from_secs(2),
        flap_window: Duration::from_secs(4),
        ..Rules::default()
    };
    for (fall, rise, flaps, marginal_errors_per_mille) in
        [(1, 1, 1, 1000), (1, 2, 0, 10), (2, 1, 1, 20), (1, 1, 2, 0)]
    {
        let rules = Rules {
            fall,
            rise,
            flaps,
            marginal_errors_per_mille,
            ..quick
        };
        enumerate(&steps, 6, &rules);
    }
}

#[test]
fn unknown_never_changes_anything() {
    let rules = Rules::default();
    for verdict in ALL {
        let mut health = Health::default();
        health.apply(&verdict, at(1), &rules);
        let before = format!("{health:?}");
        assert_eq!(health.apply(&UNKNOWN, at(2), &rules), None);
        assert_eq!(format!("{health:?}"), before);
    }
}

#[test]
fn busy_keeps_a_path_up_and_brings_none_up() {
    let rules = Rules::default();
    let busy = Verdict::Busy;
    let mut health = Health::default();
    assert_eq!(health.apply(&busy, at(1), &rules), None);
    assert_eq!(health.state(), State::Pending);
    health.apply(&GOOD, at(2), &rules);
    assert_eq!(health.apply(&busy, at(3), &rules), None);
    assert_eq!((health.state(), health.cause().name()), (State::Up, "busy"));
    health.apply(&FAILED, at(4), &rules);
    for second in 5..50 {
        assert_eq!(health.apply(&busy, at(second), &rules), None);
        assert_eq!(health.state(), State::Down);
    }
    // It neither counts towards `rise` nor resets the count.
    health.apply(&GOOD, at(50), &rules);
    health.apply(&busy, at(51), &rules);
    let back = health.apply(&GOOD, at(52), &rules);
    assert_eq!(back.expect("two good ones").to, State::Up);
}

#[test]
fn a_reservation_of_another_host_counts_as_good() {
    let rules = Rules::default();
    let reserved = Verdict::Failed {
        errno: Errno::EBADE,
    };
    let mut health = Health::default();
    let up = health.apply(&reserved, at(1), &rules).expect("a change");
    assert_eq!(
        (up.to, up.cause.name()),
        (State::Up, "reservation_conflict")
    );
    assert!(!reserved.is_bad());
}

#[test]
fn a_path_that_fails_too_often_is_marginal_until_it_is_clean() {
    let rules = Rules {
        fall: 2,
        flaps: 0,
        ..Rules::default()
    };
    let mut health = Health::default();
    let mut second = 0;
    let mut next = |health: &mut Health, verdict: &Verdict| {
        second += 2;
        health.apply(verdict, at(second), &rules)
    };
    for _ in 0..10 {
        next(&mut health, &GOOD);
        next(&mut health, &FAILED);
    }
    assert_eq!(health.state(), State::Up, "10 of 100 is the limit");
    next(&mut health, &GOOD);
    next(&mut health, &FAILED);
    let change = next(&mut health, &GOOD).expect("a change");
    assert_eq!(
        (change.to, change.cause),
        (State::Marginal, Cause::ErrorRate)
    );
    for _ in 0..28 {
        assert_eq!(next(&mut health, &GOOD), None);
    }
    let change = next(&mut health, &GOOD).expect("60 s after the last failure");
    assert_eq!((change.from, change.to), (State::Marginal, State::Up));
    assert_eq!(next(&mut health, &GOOD), None, "and stays");
}

#[test]
fn a_flapping_path_comes_back_as_marginal() {
    let rules = Rules {
        marginal_errors_per_mille: 1000,
        rise: 1,
        ..Rules::default()
    };
    let mut health = Health::default();
    health.apply(&GOOD, at(0), &rules);
    for fall in 1..=3 {
        health.apply(&FAILED, at(fall * 10), &rules);
        let change = health.apply(&GOOD, at(fall * 10 + 1), &rules);
        assert_eq!(change.expect("back").to, State::Up);
    }
    health.apply(&FAILED, at(40), &rules);
    let change = health.apply(&GOOD, at(41), &rules).expect("back");
    assert_eq!(
        (change.to, change.cause),
        (State::Marginal, Cause::Flapping)
    );
    assert_eq!(health.apply(&GOOD, at(99), &rules), None);
    assert_eq!(
        health.apply(&GOOD, at(100), &rules).expect("clean").to,
        State::Up
    );
}

#[test]
fn a_paused_path_ignores_verdicts_and_restarts_without_history() {
    let rules = Rules::default();
    let mut health = Health::default();
    health.apply(&FAILED, at(1), &rules);
    assert_eq!(health.pause(true, at(1)).expect("paused").from, State::Down);
    assert_eq!(health.pause(true, at(1)), None);
    assert_eq!(health.apply(&GOOD, at(2), &rules), None);
    assert_eq!(
        health.pause(false, at(2)).expect("resumed").to,
        State::Pending
    );
    assert_eq!(
        health.apply(&GOOD, at(3), &rules).expect("up").to,
        State::Up
    );
}
