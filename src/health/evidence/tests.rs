//! Goes through the module's tables, and tells some stories of stacks.

use super::*;

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

/// A history with looks at these moments.
fn seen(looks: &[(u64, Activity)]) -> History {
    let mut history = History::default();
    for (ms, activity) in looks {
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

/// The table of reads that never got in, row by row, over every combination.
#[test]
fn every_combination_of_a_read_that_was_kept_out_is_judged_by_the_table() {
    let mut rows = 0;
    for suspended in [false, true] {
        for dirty in [false, true] {
            for in_flight in [None, Some(0), Some(128)] {
                for completes in [false, true] {
                    let look = |moment: u64| {
                        let completed = if completes { moment } else { 5 };
                        disk(suspended, in_flight.map(|held| (completed, held)))
                    };
                    let history = seen(&[(0, look(0)), (1_000, look(1_000)), (2_000, look(2_000))]);
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
                    assert_eq!(when_kept_out(&history, || dirty), expected, "{row:?}");
                    rows += 1;
                }
            }
        }
    }
    assert_eq!(rows, 24);
    let nothing = when_kept_out(&History::default(), || true);
    assert_eq!(nothing, Verdict::Saturated(Backpressure::NoProgress));
}

/// The table of reads that were not answered.
#[test]
fn every_combination_of_a_read_that_is_not_answered_is_judged_by_the_table() {
    let stage = Stage::Device;
    let all = [false, true];
    let mut rows = 0;
    for (was_kept_out, is_redundant) in all.iter().flat_map(|a| all.map(|b| (*a, b))) {
        for (is_throttled, completes) in all.iter().flat_map(|a| all.map(|b| (*a, b))) {
            for (in_flight, looks) in [(0, 2), (0, 1), (3, 2), (3, 1)] {
                let look = |moment: u64| {
                    let completed = if completes { moment } else { 5 };
                    (moment, disk(false, Some((completed, in_flight))))
                };
                let silence = Silence {
                    stage,
                    was_kept_out,
                    is_redundant,
                    is_throttled,
                };
                let history = seen(&[look(0), look(2_000)][..looks]);
                let progresses = completes && looks == 2;
                let innocent = in_flight == 0 || progresses || looks == 1;
                let expected = match (was_kept_out || is_redundant, progresses, is_throttled) {
                    (true, true, _) => Verdict::Busy,
                    (_, _, true) if innocent => Verdict::Unknown {
                        why: UnknownReason::Throttled,
                    },
                    _ => Verdict::TimedOut { stage },
                };
                assert_eq!(
                    silence.verdict(&history),
                    expected,
                    "{silence:?} {history:?}"
                );
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
fn a_mirror_progresses_while_one_leg_does_and_a_concatenation_only_while_none_stands_still() {
    let legs = |ms: u64| vec![leaf("dead", 5, 9), leaf("well", ms, 3)];
    let looks = |layout: fn(Vec<Layout>) -> Layout| {
        let look = |ms: u64| (ms, stack(layout(legs(ms))));
        seen(&[look(0), look(1_000), look(2_000)])
    };
    let mirror = looks(Layout::Any);
    assert_eq!(when_kept_out(&mirror, || true), Verdict::Busy);
    assert_eq!(mirror.still_since(), Some(at(2_000)));
    let both = looks(Layout::All);
    let still = Verdict::Saturated(Backpressure::NoProgress);
    assert_eq!(when_kept_out(&both, || true), still);
    assert_eq!(both.still_since(), Some(at(0)));
}

#[test]
fn a_mirror_of_which_both_legs_are_dead_stands_still_since_the_second_died() {
    let look = |ms: u64| {
        let legs = vec![leaf("a", ms.min(300), 9), leaf("b", ms.min(700), 9)];
        (ms, stack(Layout::Any(legs)))
    };
    let mut history = seen(&[look(0), look(300), look(700), look(1_900)]);
    assert_eq!(history.still_since(), Some(at(700)));
    history.begin_check();
    history.observe(&look(2_700).1, at(2_100), at(2_700), TIMEOUT);
    assert_eq!(history.still_since(), Some(at(700)));
    let still = Verdict::Saturated(Backpressure::NoProgress);
    assert_eq!(when_kept_out(&history, || true), still);
}

#[test]
fn a_leg_that_has_nothing_to_do_any_more_is_not_still() {
    let look = |ms: u64| {
        let legs = vec![leaf("a", 5, 9), leaf("b", ms.min(1_000), 0)];
        (ms, stack(Layout::Any(legs)))
    };
    let history = seen(&[look(0), look(1_000), look(1_500)]);
    assert_eq!(history.still_since(), None);
    assert_eq!(when_kept_out(&history, || true), Verdict::Busy);
}

#[test]
fn only_what_succeeds_is_progress() {
    // All that completes fails: completed less failed goes back and forth, and no further.
    let look = |ms: u64, good: u64| (ms, disk(false, Some((good, 128))));
    let failing = seen(&[look(0, 50), look(500, 49), look(1_000, 50), look(2_000, 48)]);
    let still = Verdict::Saturated(Backpressure::NoProgress);
    assert_eq!(when_kept_out(&failing, || true), still);
    let one_more = seen(&[look(0, 50), look(1_000, 49), look(2_000, 51)]);
    assert_eq!(when_kept_out(&one_more, || true), Verdict::Busy);
    // Counted from zero again: the differences count, not the numbers.
    let wrapped = seen(&[look(0, u64::MAX), look(1_000, 3)]);
    assert_eq!(when_kept_out(&wrapped, || true), Verdict::Busy);
}
