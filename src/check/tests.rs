//! Goes through checks step by step.

use super::*;

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

fn counters(completed: u64, in_flight: u64) -> Option<Counters> {
    Some(Counters {
        completed,
        in_flight,
    })
}

/// Lets every try end in `EAGAIN` until the verdict.
fn never_in(first: Option<Counters>, last: Option<Counters>) -> (Verdict, u32) {
    let mut check = check();
    let mut step = check.ended(Outcome::Failed(Errno::EAGAIN), at(0), None, || first);
    for tries in 1..1000 {
        let Step::Pause(until) = step else {
            panic!("{step:?}")
        };
        match check.again(until, || last) {
            Step::Read { .. } => {
                let again = Outcome::Failed(Errno::EAGAIN);
                step = check.ended(again, until, None, || first);
            }
            Step::End(verdict) => {
                assert_eq!(until, at(2000), "judged at the deadline");
                return (verdict, tries);
            }
            Step::Pause(_) => panic!("two pauses in a row"),
        }
    }
    panic!("never judged")
}

#[test]
fn an_answer_is_good_and_its_latency_is_that_of_its_own_read() {
    let mut check = check();
    let step = check.ended(Outcome::Failed(Errno::EAGAIN), at(1), None, || None);
    assert_eq!(step, Step::Pause(at(2)));
    assert!(matches!(check.again(at(2), || None), Step::Read { .. }));
    let latency = Duration::from_millis(3);
    assert_eq!(
        check.ended(Outcome::Read(512), at(5), None, || None),
        Step::End(Verdict::Good { latency })
    );
}

#[test]
fn counters_tell_busy_from_saturated_and_from_idle() {
    assert_eq!(
        never_in(counters(5, 128), counters(6, 128)).0,
        Verdict::Busy
    );
    assert_eq!(
        never_in(counters(5, 128), counters(5, 128)).0,
        Verdict::Saturated
    );
    assert_eq!(never_in(None, None).0, Verdict::Saturated);
    let why = Why::WouldBlock;
    let (verdict, tries) = never_in(counters(5, 0), counters(5, 0));
    assert_eq!(verdict, Verdict::Unknown { why });
    assert!(tries >= 40, "{tries} tries");
}

#[test]
fn a_read_that_got_in_late_does_not_condemn_a_busy_device() {
    let stage = Stage::Device;
    for (now, verdict) in [(6, Verdict::Busy), (5, Verdict::TimedOut { stage })] {
        let mut check = check();
        let again = Outcome::Failed(Errno::EAGAIN);
        check.ended(again, at(0), None, || counters(5, 128));
        check.again(at(1900), || None);
        assert_eq!(check.submitted(), at(1900));
        let step = check.ended(Outcome::Expired(stage), at(2000), None, || {
            counters(now, 128)
        });
        assert_eq!(step, Step::End(verdict));
    }
}

/// Goes through a check of which every try ends in `EAGAIN`, with these counters at each moment.
fn kept_out(
    begun: u64,
    standstill: Option<Standstill>,
    counters: impl Fn(Mono) -> Option<Counters>,
) -> (Mono, Verdict, Option<Standstill>) {
    let mut check = Check::new(at(begun), TIMEOUT, 512, Nowait::Untried);
    check.read(at(begun));
    let again = Outcome::Failed(Errno::EAGAIN);
    let mut step = check.ended(again, at(begun), standstill, || counters(at(begun)));
    loop {
        let Step::Pause(until) = step else {
            panic!("{step:?}")
        };
        step = match check.again(until, || counters(until)) {
            Step::End(verdict) => return (until, verdict, check.standstill()),
            _ => check.ended(again, until, standstill, || counters(until)),
        };
    }
}

#[test]
fn a_device_that_dies_while_it_is_busy_has_one_timeout_and_not_two() {
    let dies = |now: Mono| counters(now.min(at(300)).as_nanos(), 128);
    let (end, verdict, standstill) = kept_out(0, None, dies);
    assert_eq!((end, verdict), (at(2000), Verdict::Busy));
    let (end, verdict, _) = kept_out(2100, standstill, dies);
    assert_eq!(verdict, Verdict::Saturated);
    assert!((at(2300)..at(2400)).contains(&end), "{end}");
    let (end, verdict, _) = kept_out(4000, standstill, dies);
    assert_eq!((end, verdict), (at(4001), Verdict::Saturated));
}

#[test]
fn a_device_that_was_idle_in_between_has_its_whole_time_again() {
    // Everything was completed at 1 s; after 60 s others fill it again, and it works.
    let bursts = |now: Mono| match now {
        now if now < at(1_000) => counters(now.as_nanos(), 128),
        now if now < at(60_000) => counters(at(1_000).as_nanos(), 0),
        now if now < at(61_500) => counters(at(1_000).as_nanos(), 128),
        now => counters(now.as_nanos(), 128),
    };
    let (_, verdict, standstill) = kept_out(0, None, bursts);
    assert_eq!((verdict, standstill), (Verdict::Busy, None));
    let (end, verdict, _) = kept_out(60_000, standstill, bursts);
    assert_eq!((end, verdict), (at(62_000), Verdict::Busy));
}

#[test]
fn retries_alternate_between_the_place_and_others() {
    let mut check = check();
    let mut places = vec![];
    for ms in 1..7 {
        match check.again(at(ms), || None) {
            Step::Read { place, .. } => places.push(place),
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(places, [1, 0, 3, 0, 5, 0]);
}

#[test]
fn a_file_without_nowait_is_read_without_it() {
    let mut check = check();
    assert_eq!(
        check.ended(Outcome::Failed(Errno::EOPNOTSUPP), at(1), None, || None),
        Step::Read {
            nowait: false,
            place: 1
        }
    );
    assert_eq!(check.nowait(), Nowait::Missing);
    let errno = Errno::EOPNOTSUPP;
    assert_eq!(
        check.ended(Outcome::Failed(errno), at(2), None, || None),
        Step::End(Verdict::Failed { errno })
    );
}

#[test]
fn a_device_that_says_so_after_it_answered_is_believed_for_itself() {
    let errno = Errno::EOPNOTSUPP;
    for before in [Outcome::Read(512), Outcome::Failed(Errno::EAGAIN)] {
        let mut check = check();
        check.ended(before, at(1), None, || None);
        assert_eq!(check.nowait(), Nowait::Works);
        let step = check.ended(Outcome::Failed(errno), at(2), None, || None);
        assert_eq!(step, Step::End(Verdict::Failed { errno }));
        assert_eq!(check.nowait(), Nowait::Works);
    }
}

#[test]
fn a_file_in_a_file_system_that_would_wait_is_read_without_nowait() {
    let mut check = Check::new(at(0), TIMEOUT, 512, Nowait::Untried).in_filesystem(true);
    check.read(at(0));
    let plain = Step::Read {
        nowait: false,
        place: 0,
    };
    let again = Outcome::Failed(Errno::EAGAIN);
    assert_eq!(check.ended(again, at(1), None, || None), plain);
    assert_eq!(
        check.nowait(),
        Nowait::Works,
        "the next check may be lucky again"
    );
    let step = check.ended(Outcome::Read(512), at(3), None, || None);
    let latency = Duration::from_millis(2);
    assert_eq!(step, Step::End(Verdict::Good { latency }));
}

#[test]
fn refusals_are_tried_again_and_never_blame_the_device() {
    for (reject, why) in [
        (Reject::Full, Why::NoSlot),
        (Reject::NoMemory, Why::NoMemory),
    ] {
        let mut check = check();
        assert_eq!(check.refused(reject, at(0)), Step::Pause(at(1)));
        let step = check.again(at(2000), || counters(1, 1));
        assert_eq!(step, Step::End(Verdict::Unknown { why }));
    }
    let step = check().refused(Reject::Broken, at(0));
    assert_eq!(step, unknown(Why::Broken));
}

#[test]
fn every_outcome_leads_on() {
    let ends = [
        (Outcome::Read(511), Verdict::ShortRead { got: 511 }),
        (
            Outcome::Failed(Errno::EIO),
            Verdict::Failed { errno: Errno::EIO },
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
                why: Why::NotStarted,
            },
        ),
        (
            Outcome::Cancelled,
            Verdict::Unknown {
                why: Why::Cancelled,
            },
        ),
        (
            Outcome::Failed(Errno::EINVAL),
            Verdict::Unknown {
                why: Why::Refused(Errno::EINVAL),
            },
        ),
        (
            Outcome::Failed(Errno::ENOMEM),
            Verdict::Unknown { why: Why::NoMemory },
        ),
    ];
    for (outcome, verdict) in ends {
        assert_eq!(
            check().ended(outcome, at(1), None, || None),
            Step::End(verdict),
            "{outcome:?}"
        );
    }
}
