//! Checks every row of the module's tables, and some sequences of samples of stacks.

use super::*;
use crate::health::{Activity, Counters, Layout, Leaf};
use pathpulse_kernel_compat::Mono;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

fn at(ms: u64) -> Mono {
    Mono::ZERO + Duration::from_millis(ms)
}

fn leaf(name: &str, completed: u64, in_flight: u64) -> Layout {
    Layout::Leaf(Leaf {
        name: name.to_owned(),
        counters: Some(Counters {
            completed,
            in_flight,
        }),
    })
}

/// A history with samples at these moments.
fn seen(samples: &[(u64, Activity)]) -> History {
    let mut history = History::default();
    for (ms, activity) in samples {
        history.observe(activity, at(0), at(*ms), TIMEOUT);
    }
    history
}

fn disk(suspended: bool, counters: Option<(u64, u64)>) -> Activity {
    let counters = counters.map(|(completed, in_flight)| Counters {
        completed,
        in_flight,
    });
    Activity {
        suspended,
        ..Activity::of_disk(counters)
    }
}

/// The table of reads that never got in: every combination.
#[test]
fn reads_that_are_not_admitted_get_the_verdicts_of_the_table() {
    let mut rows = 0;
    for suspended in [false, true] {
        for dirty in [false, true] {
            for in_flight in [None, Some(0), Some(128)] {
                for completes in [false, true] {
                    let sample = |moment: u64| {
                        let completed = if completes { moment } else { 5 };
                        disk(suspended, in_flight.map(|held| (completed, held)))
                    };
                    let history = seen(&[
                        (0, sample(0)),
                        (1_000, sample(1_000)),
                        (2_000, sample(2_000)),
                    ]);
                    let progresses = completes && in_flight.is_some();
                    let expected = match (suspended, progresses, in_flight, dirty) {
                        (true, ..) => Verdict::Saturated(Backpressure::Suspended),
                        (false, true, ..) => Verdict::Busy,
                        (false, false, Some(0), true) => Verdict::Unknown {
                            why: UnknownReason::WouldBlock,
                        },
                        (false, false, ..) => Verdict::Saturated(Backpressure::NoProgress),
                    };
                    let row = (suspended, dirty, in_flight, completes);
                    assert_eq!(
                        verdict_if_not_admitted(&history, || dirty),
                        expected,
                        "{row:?}"
                    );
                    rows += 1;
                }
            }
        }
    }
    assert_eq!(rows, 24);
    let nothing = verdict_if_not_admitted(&History::default(), || true);
    assert_eq!(nothing, Verdict::Saturated(Backpressure::NoProgress));
}

/// The table of reads without an answer: every combination.
#[test]
fn unanswered_reads_get_the_verdicts_of_the_table() {
    let stage = Stage::Device;
    let all = [false, true];
    let mut rows = 0;
    for (not_admitted, is_redundant) in all.iter().flat_map(|a| all.map(|b| (*a, b))) {
        for (is_throttled, completes) in all.iter().flat_map(|a| all.map(|b| (*a, b))) {
            for (in_flight, samples) in [(0, 2), (0, 1), (3, 2), (3, 1)] {
                let sample = |moment: u64| {
                    let completed = if completes { moment } else { 5 };
                    (moment, disk(false, Some((completed, in_flight))))
                };
                let read = UnansweredRead {
                    stage,
                    not_admitted,
                    is_redundant,
                    is_throttled,
                };
                let history = seen(&[sample(0), sample(2_000)][..samples]);
                let progresses = completes && samples == 2;
                let no_stall_seen = in_flight == 0 || progresses || samples == 1;
                let expected = match (not_admitted || is_redundant, progresses, is_throttled) {
                    (true, true, _) => Verdict::Busy,
                    (_, _, true) if no_stall_seen => Verdict::Unknown {
                        why: UnknownReason::Throttled,
                    },
                    _ => Verdict::TimedOut { stage },
                };
                assert_eq!(read.verdict(&history), expected, "{read:?} {history:?}");
                rows += 1;
            }
        }
    }
    assert_eq!(rows, 64);
}

fn stack(layout: Layout) -> Activity {
    Activity {
        suspended: false,
        layout,
    }
}

#[test]
fn a_mirror_needs_one_active_leg_and_a_concatenation_all_of_them() {
    let legs = |ms: u64| vec![leaf("dead", 5, 9), leaf("well", ms, 3)];
    let samples = |layout: fn(Vec<Layout>) -> Layout| {
        let sample = |ms: u64| (ms, stack(layout(legs(ms))));
        seen(&[sample(0), sample(1_000), sample(2_000)])
    };
    let mirror = samples(Layout::Any);
    assert_eq!(verdict_if_not_admitted(&mirror, || true), Verdict::Busy);
    assert_eq!(mirror.no_progress_since(), Some(at(2_000)));
    let both = samples(Layout::All);
    let still = Verdict::Saturated(Backpressure::NoProgress);
    assert_eq!(verdict_if_not_admitted(&both, || true), still);
    assert_eq!(both.no_progress_since(), Some(at(0)));
}

#[test]
fn a_dead_mirror_has_no_progress_since_its_second_leg_died() {
    let sample = |ms: u64| {
        let legs = vec![leaf("a", ms.min(300), 9), leaf("b", ms.min(700), 9)];
        (ms, stack(Layout::Any(legs)))
    };
    let mut history = seen(&[sample(0), sample(300), sample(700), sample(1_900)]);
    assert_eq!(history.no_progress_since(), Some(at(700)));
    history.begin_check();
    history.observe(&sample(2_700).1, at(2_100), at(2_700), TIMEOUT);
    assert_eq!(history.no_progress_since(), Some(at(700)));
    let still = Verdict::Saturated(Backpressure::NoProgress);
    assert_eq!(verdict_if_not_admitted(&history, || true), still);
}

#[test]
fn a_leg_that_became_idle_counts_as_working() {
    let sample = |ms: u64| {
        let legs = vec![leaf("a", 5, 9), leaf("b", ms.min(1_000), 0)];
        (ms, stack(Layout::Any(legs)))
    };
    let history = seen(&[sample(0), sample(1_000), sample(1_500)]);
    assert_eq!(history.no_progress_since(), None);
    assert_eq!(verdict_if_not_admitted(&history, || true), Verdict::Busy);
}

#[test]
fn only_successful_requests_are_progress() {
    // All requests fail: completed minus failed goes back and forth without a new maximum.
    let sample = |ms: u64, good: u64| (ms, disk(false, Some((good, 128))));
    let failing = seen(&[
        sample(0, 50),
        sample(500, 49),
        sample(1_000, 50),
        sample(2_000, 48),
    ]);
    let still = Verdict::Saturated(Backpressure::NoProgress);
    assert_eq!(verdict_if_not_admitted(&failing, || true), still);
    let one_more = seen(&[sample(0, 50), sample(1_000, 49), sample(2_000, 51)]);
    assert_eq!(verdict_if_not_admitted(&one_more, || true), Verdict::Busy);
    // The counter wrapped: differences count, not the numbers.
    let wrapped = seen(&[sample(0, u64::MAX), sample(1_000, 3)]);
    assert_eq!(verdict_if_not_admitted(&wrapped, || true), Verdict::Busy);
}
