//! Runs checks step by step.

use super::*;
use crate::health::{Activity, Backpressure, Counters, LinkState};

const TIMEOUT: Duration = Duration::from_secs(2);

fn at(ms: u64) -> Mono {
    Mono::ZERO + Duration::from_millis(ms)
}

fn check() -> Check {
    let mut check = Check::new(at(0), TIMEOUT, 512, Nowait::Untried);
    assert_eq!(
        check.read(at(0)),
        Step::Read {
            nowait: true,
            place: 0
        }
    );
    check
}

/// Counters that a probe reports.
struct FixedProbe(Option<Counters>);

impl DeviceProbe for FixedProbe {
    fn link(&self) -> LinkState {
        LinkState::Running
    }

    fn activity(&self) -> Option<Activity> {
        self.0.map(|counters| Activity::of_disk(Some(counters)))
    }
}

fn counters(completed: u64, in_flight: u64) -> Option<Counters> {
    Some(Counters {
        completed,
        in_flight,
    })
}

/// Answers every read with `EAGAIN` until the verdict.
fn never_admitted(first: Option<Counters>, last: Option<Counters>) -> (Verdict, u32) {
    let mut check = check();
    let mut step = check.ended(Outcome::Failed(Errno::EAGAIN), at(0), &FixedProbe(first));
    for tries in 1..1000 {
        let Step::Pause(until) = step else {
            panic!("{step:?}")
        };
        match check.retry(until, &FixedProbe(last)) {
            Step::Read { .. } => {
                let again = Outcome::Failed(Errno::EAGAIN);
                step = check.ended(again, until, &FixedProbe(first));
            }
            Step::End(verdict) => {
                assert_eq!(until, at(2000), "decided at the deadline");
                return (verdict, tries);
            }
            Step::Pause(_) => panic!("two pauses in a row"),
        }
    }
    panic!("no verdict")
}

#[test]
fn the_latency_of_an_answer_counts_from_its_own_read() {
    let mut check = check();
    let step = check.ended(Outcome::Failed(Errno::EAGAIN), at(1), &FixedProbe(None));
    assert_eq!(step, Step::Pause(at(2)));
    assert!(matches!(
        check.retry(at(2), &FixedProbe(None)),
        Step::Read { .. }
    ));
    let latency = Duration::from_millis(3);
    assert_eq!(
        check.ended(Outcome::Read(512), at(5), &FixedProbe(None)),
        Step::End(Verdict::Good { latency })
    );
}

#[test]
fn counters_distinguish_busy_saturated_and_idle() {
    assert_eq!(
        never_admitted(counters(5, 128), counters(6, 128)).0,
        Verdict::Busy
    );
    assert_eq!(
        never_admitted(counters(5, 128), counters(5, 128)).0,
        Verdict::Saturated(Backpressure::NoProgress)
    );
    assert_eq!(
        never_admitted(None, None).0,
        Verdict::Saturated(Backpressure::NoProgress)
    );
    let why = UnknownReason::WouldBlock;
    let (verdict, tries) = never_admitted(counters(5, 0), counters(5, 0));
    assert_eq!(verdict, Verdict::Unknown { why });
    assert!(tries >= 40, "{tries} tries");
}

#[test]
fn a_late_admitted_read_does_not_count_against_a_busy_device() {
    let stage = Stage::Device;
    for (now, verdict) in [(6, Verdict::Busy), (5, Verdict::TimedOut { stage })] {
        let mut check = check();
        let again = Outcome::Failed(Errno::EAGAIN);
        check.ended(again, at(0), &FixedProbe(counters(5, 128)));
        check.retry(at(1900), &FixedProbe(None));
        assert_eq!(check.submitted(), at(1900));
        let step = check.ended(
            Outcome::Expired(stage),
            at(2000),
            &FixedProbe(counters(now, 128)),
        );
        assert_eq!(step, Step::End(verdict));
    }
}

/// Runs a check whose reads all end in `EAGAIN`, with these counters at each moment.
fn run_not_admitted(
    begun: u64,
    history: Option<Box<History>>,
    counters: impl Fn(Mono) -> Option<Counters>,
) -> (Mono, Verdict, Option<Box<History>>) {
    let mut check = Check::new(at(begun), TIMEOUT, 512, Nowait::Untried).with_history(history);
    check.read(at(begun));
    let again = Outcome::Failed(Errno::EAGAIN);
    let mut step = check.ended(again, at(begun), &FixedProbe(counters(at(begun))));
    loop {
        let Step::Pause(until) = step else {
            panic!("{step:?}")
        };
        step = match check.retry(until, &FixedProbe(counters(until))) {
            Step::End(verdict) => return (until, verdict, check.into_history(false)),
            _ => check.ended(again, until, &FixedProbe(counters(until))),
        };
    }
}

#[test]
fn a_device_that_dies_while_busy_gets_one_timeout_and_not_two() {
    let dies = |now: Mono| counters(now.min(at(300)).as_nanos(), 128);
    let (end, verdict, history) = run_not_admitted(0, None, dies);
    assert_eq!((end, verdict), (at(2000), Verdict::Busy));
    let (end, verdict, _) = run_not_admitted(2100, history.clone(), dies);
    assert_eq!(verdict, Verdict::Saturated(Backpressure::NoProgress));
    assert!((at(2300)..at(2400)).contains(&end), "{end}");
    let (end, verdict, _) = run_not_admitted(4000, history, dies);
    assert_eq!(
        (end, verdict),
        (at(4001), Verdict::Saturated(Backpressure::NoProgress))
    );
}

#[test]
fn a_device_that_was_idle_gets_its_whole_timeout_again() {
    // All requests complete by 1 s. From 60 s on other readers fill the device again, and it works.
    let bursts = |now: Mono| match now {
        now if now < at(1_000) => counters(now.as_nanos(), 128),
        now if now < at(60_000) => counters(at(1_000).as_nanos(), 0),
        now if now < at(61_500) => counters(at(1_000).as_nanos(), 128),
        now => counters(now.as_nanos(), 128),
    };
    let (_, verdict, history) = run_not_admitted(0, None, bursts);
    assert_eq!((verdict, &history), (Verdict::Busy, &None));
    let (end, verdict, _) = run_not_admitted(60_000, history, bursts);
    assert_eq!((end, verdict), (at(62_000), Verdict::Busy));
}

#[test]
fn retries_alternate_between_the_configured_place_and_others() {
    let mut check = check();
    let mut places = vec![];
    for ms in 1..7 {
        match check.retry(at(ms), &FixedProbe(None)) {
            Step::Read { place, .. } => places.push(place),
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(places, [1, 0, 3, 0, 5, 0]);
}

#[test]
fn a_file_without_nowait_support_is_read_without_the_flag() {
    let mut check = check();
    assert_eq!(
        check.ended(Outcome::Failed(Errno::EOPNOTSUPP), at(1), &FixedProbe(None)),
        Step::Read {
            nowait: false,
            place: 0
        },
        "the configured place"
    );
    assert_eq!(check.nowait(), Nowait::Unsupported);
    let errno = Errno::EOPNOTSUPP;
    assert_eq!(
        check.ended(Outcome::Failed(errno), at(2), &FixedProbe(None)),
        Step::End(Verdict::Failed { errno })
    );
}

#[test]
fn a_read_that_waits_for_a_tag_does_not_count_against_a_busy_device() {
    for (stage, now, is_busy) in [
        (Stage::Submission, 6, true),
        (Stage::Submission, 5, false),
        (Stage::Device, 6, false),
    ] {
        let verdict = match is_busy {
            true => Verdict::Busy,
            false => Verdict::TimedOut { stage },
        };
        let busy = FixedProbe(counters(5, 128));
        let expired = Outcome::Expired(stage);
        // Known not to support the flag.
        let mut check = Check::new(at(0), TIMEOUT, 512, Nowait::Unsupported);
        check.observe_before_read(at(0), &busy);
        check.read(at(0));
        let step = check.ended(expired, at(2000), &FixedProbe(counters(now, 128)));
        assert_eq!(step, Step::End(verdict), "{stage:?} {now}");
        // Found out in this check.
        let mut check = self::check();
        check.observe_before_read(at(0), &busy);
        check.ended(Outcome::Failed(Errno::EOPNOTSUPP), at(1), &busy);
        let step = check.ended(expired, at(2000), &FixedProbe(counters(now, 128)));
        assert_eq!(step, Step::End(verdict), "{stage:?} {now}");
    }
    // A read that has a tag, or does not wait for one, is not excused.
    let stage = Stage::Submission;
    let mut check = Check::new(at(0), TIMEOUT, 512, Nowait::Works);
    check.observe_before_read(at(0), &FixedProbe(counters(5, 128)));
    check.read(at(0));
    let step = check.ended(
        Outcome::Expired(stage),
        at(2000),
        &FixedProbe(counters(6, 128)),
    );
    assert_eq!(step, Step::End(Verdict::TimedOut { stage }));
}

#[test]
fn a_stuck_read_is_judged_by_earlier_samples_even_of_an_idle_disk() {
    let stage = Stage::Submission;
    let expired = || {
        let mut check = Check::new(at(0), TIMEOUT, 512, Nowait::Unsupported);
        check.observe_before_read(at(0), &FixedProbe(counters(5, 0)));
        check.read(at(0));
        let step = check.ended(
            Outcome::Expired(stage),
            at(2000),
            &FixedProbe(counters(6, 0)),
        );
        assert_eq!(step, Step::End(Verdict::Busy));
        check
    };
    assert_eq!(expired().into_history(false), None);
    let mut history = expired().into_history(true).expect("kept");
    for (ms, completed, verdict) in [
        (3000, 7, Verdict::Busy),
        (5000, 7, Verdict::TimedOut { stage }),
    ] {
        let seen = FixedProbe(counters(completed, 0));
        let times = (at(0), at(ms), TIMEOUT);
        let verdict_now = verdict_if_unanswered(stage, true, &mut history, &seen, times);
        assert_eq!(verdict_now, verdict, "{ms} ms");
    }
}

#[test]
fn eopnotsupp_after_an_answer_is_the_devices_own_error() {
    let errno = Errno::EOPNOTSUPP;
    for before in [Outcome::Read(512), Outcome::Failed(Errno::EAGAIN)] {
        let mut check = check();
        check.ended(before, at(1), &FixedProbe(None));
        assert_eq!(check.nowait(), Nowait::Works);
        let step = check.ended(Outcome::Failed(errno), at(2), &FixedProbe(None));
        assert_eq!(step, Step::End(Verdict::Failed { errno }));
        assert_eq!(check.nowait(), Nowait::Works);
    }
}

#[test]
fn a_regular_file_that_would_block_is_read_without_nowait() {
    let mut check = Check::new(at(0), TIMEOUT, 512, Nowait::Untried).in_filesystem(true);
    check.read(at(0));
    let plain = Step::Read {
        nowait: false,
        place: 0,
    };
    let again = Outcome::Failed(Errno::EAGAIN);
    assert_eq!(check.ended(again, at(1), &FixedProbe(None)), plain);
    assert_eq!(
        check.nowait(),
        Nowait::Works,
        "the next check tries the flag again"
    );
    let step = check.ended(Outcome::Read(512), at(3), &FixedProbe(None));
    let latency = Duration::from_millis(2);
    assert_eq!(step, Step::End(Verdict::Good { latency }));
}

#[test]
fn rejections_are_retried_and_never_count_against_the_device() {
    for (reject, why) in [
        (Reject::Full, UnknownReason::NoSlot),
        (Reject::NoMemory, UnknownReason::NoMemory),
    ] {
        let mut check = check();
        assert_eq!(check.refused(reject, at(0)), Step::Pause(at(1)));
        let step = check.retry(at(2000), &FixedProbe(counters(1, 1)));
        assert_eq!(step, Step::End(Verdict::Unknown { why }));
    }
    let step = check().refused(Reject::Broken, at(0));
    assert_eq!(step, unknown(UnknownReason::Broken));
}

#[test]
fn every_outcome_has_its_verdict() {
    let ends = [
        (Outcome::Read(511), Verdict::ShortRead { got: 511 }),
        (
            Outcome::Failed(Errno::ENOLINK),
            Verdict::Failed {
                errno: Errno::ENOLINK,
            },
        ),
        (
            Outcome::Expired(Stage::Device),
            Verdict::TimedOut {
                stage: Stage::Device,
            },
        ),
        (
            Outcome::NotStarted,
            Verdict::Unknown {
                why: UnknownReason::NotStarted,
            },
        ),
        (
            Outcome::Cancelled,
            Verdict::Unknown {
                why: UnknownReason::Cancelled,
            },
        ),
        (
            Outcome::Failed(Errno::EINVAL),
            Verdict::Unknown {
                why: UnknownReason::Refused(Errno::EINVAL),
            },
        ),
        (
            Outcome::Failed(Errno::ENOMEM),
            Verdict::Unknown {
                why: UnknownReason::NoMemory,
            },
        ),
    ];
    for (outcome, verdict) in ends {
        assert_eq!(
            check().ended(outcome, at(1), &FixedProbe(None)),
            Step::End(verdict),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_bad_block_counts_only_if_another_block_is_bad_too() {
    let (good, second) = (Outcome::Read(512), Duration::from_millis(3));
    for errno in [Errno::EIO, Errno::ENODATA, Errno::EILSEQ] {
        let failed = Step::End(Verdict::Failed { errno });
        let bad = Outcome::Failed(errno);
        let stage = Stage::Device;
        let gone = Outcome::Failed(Errno::ENODEV);
        for (then, verdict) in [
            (good, Step::End(Verdict::Good { latency: second })),
            (bad, failed),
            (Outcome::Failed(Errno::EILSEQ), failed),
            (
                Outcome::Expired(stage),
                Step::End(Verdict::TimedOut { stage }),
            ),
            (
                gone,
                Step::End(Verdict::Failed {
                    errno: Errno::ENODEV,
                }),
            ),
        ] {
            let mut check = check();
            match check.ended(bad, at(7), &FixedProbe(None)) {
                Step::Read { place, .. } => assert_ne!(place, 0),
                step => panic!("{step:?}"),
            }
            assert_eq!(
                check.ended(then, at(10), &FixedProbe(None)),
                verdict,
                "{then:?}"
            );
        }
        let late = check().ended(bad, at(2000), &FixedProbe(None));
        assert_eq!(late, failed, "no time left for another block");
    }
}

#[test]
fn retries_never_return_to_the_bad_block() {
    let mut check = check();
    check.ended(Outcome::Failed(Errno::EIO), at(1), &FixedProbe(None));
    check.ended(Outcome::Failed(Errno::EAGAIN), at(1), &FixedProbe(None));
    for ms in 10..20 {
        match check.retry(at(ms), &FixedProbe(None)) {
            Step::Read { place, .. } => assert_ne!(place, 0, "never the bad block again"),
            step => panic!("{step:?}"),
        }
    }
}

/// The number of reads in a check of a disk that holds requests all the time, and completes one in
/// `completes_every_ms` if that is given. The disk admits none of our reads.
fn reads_of_a_full_disk(requires_answer: bool, completes_every_ms: Option<u64>) -> u32 {
    let full = |now: Mono| {
        let ms = now.as_nanos() / 1_000_000;
        FixedProbe(counters(
            completes_every_ms.map_or(5, |every| ms / every),
            128,
        ))
    };
    let mut check = check().requiring_answer(requires_answer);
    let again = Outcome::Failed(Errno::EAGAIN);
    let mut step = check.ended(again, at(0), &full(at(0)));
    for reads in 1.. {
        let Step::Pause(until) = step else {
            panic!("{step:?}")
        };
        match check.retry(until, &full(until)) {
            Step::Read { .. } => step = check.ended(again, until, &full(until)),
            Step::End(_) => return reads,
            Step::Pause(_) => panic!("two pauses in a row"),
        }
    }
    unreachable!("the check ends at its deadline")
}

#[test]
fn a_path_that_is_not_up_tries_often_while_its_full_disk_completes_requests() {
    for every_ms in [1, 5, 100] {
        let reads = reads_of_a_full_disk(true, Some(every_ms));
        assert!(reads >= 500, "{every_ms}: {reads}");
        let reads = reads_of_a_full_disk(false, Some(every_ms));
        assert!((40..100).contains(&reads), "{every_ms}: {reads}");
    }
    let reads = reads_of_a_full_disk(true, None);
    assert!((40..200).contains(&reads), "a dead disk: {reads}");
}
