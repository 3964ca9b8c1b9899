//! That the judge can fail: a true story is accepted, and the same story with any one lie is not.

use std::time::Duration;

use pathpulse_chaos::{Fault, Judge, Said, Terms};

/// The rest of a story is told until then.
const END_MS: u64 = 10_000;
const EIO: Fault = Fault::Fail(5, "EIO");

#[derive(Clone, Debug)]
enum Note {
    Done(Fault),
    Said(Said),
    /// The machine did not get on for so long, until now.
    Stalled(u64),
}

type Story = Vec<(u64, Note)>;

fn done(at_ms: u64, fault: Fault) -> (u64, Note) {
    (at_ms, Note::Done(fault))
}

fn said(at_ms: u64, from: &str, to: &str, cause: &str) -> (u64, Note) {
    let (cause, errno) = cause.split_once(' ').unwrap_or((cause, ""));
    let text = |text: &str| text.to_owned();
    let said = Said {
        path: text("disk"),
        from: text(from),
        to: text(to),
        cause: text(cause),
        errno: (!errno.is_empty()).then(|| text(errno)),
        time: String::new(),
        detail: String::new(),
    };
    (at_ms, Note::Said(said))
}

fn terms() -> Terms {
    let ms = Duration::from_millis;
    Terms {
        marginal_errors: 1000,
        recovery: ms(1_500),
        ..Terms::new(ms(100), ms(300))
    }
}

/// All that the judge finds wrong with it.
fn judged(story: &Story) -> Vec<String> {
    let mut judge = Judge::new(terms());
    let mut wrong = Vec::new();
    for ms in 0..END_MS {
        let now = Duration::from_millis(ms);
        for (_, note) in story.iter().filter(|(at, _)| *at == ms) {
            match note {
                Note::Done(fault) => {
                    judge.begin(*fault, now);
                    judge.obeyed(now);
                }
                Note::Stalled(len_ms) => {
                    judge.stalled(now - Duration::from_millis(*len_ms), now);
                }
                Note::Said(said) => wrong.extend(judge.hear(said, now).wrong),
            }
        }
        wrong.extend(judge.pass(now).wrong);
    }
    wrong
}

/// A disk hangs, fails, is slow and hardly in time, and flaps until it is marginal.
fn true_story() -> Story {
    let mut story = vec![
        said(10, "pending", "up", "good"),
        done(1_000, Fault::Hang),
        said(1_380, "up", "down", "timed_out"),
        done(2_000, Fault::None),
        said(2_001, "down", "down", "late_answer"),
        said(2_030, "down", "up", "good"),
        done(3_000, EIO),
        said(3_090, "up", "down", "io_error EIO"),
        done(3_500, Fault::None),
        said(3_620, "down", "up", "good"),
        done(4_000, Fault::Slow(Duration::from_millis(100))),
        done(4_600, Fault::None),
    ];
    for at in [5_000, 5_500] {
        story.push(done(at, EIO));
        story.push(said(at + 50, "up", "down", "io_error EIO"));
        story.push(done(at + 200, Fault::None));
        let to = if at == 5_000 { "up" } else { "marginal" };
        story.push(said(at + 300, "down", to, "good"));
    }
    story.push(said(7_050, "marginal", "up", "good"));
    story
}

fn without(lost: usize) -> Story {
    let mut story = true_story();
    story.remove(lost);
    story
}

fn with(more: (u64, Note)) -> Story {
    let mut story = true_story();
    story.push(more);
    story
}

fn instead(place: usize, other: (u64, Note)) -> Story {
    let mut story = true_story();
    story[place] = other;
    story
}

#[test]
fn the_true_story_is_accepted() {
    assert_eq!(judged(&true_story()), Vec::<String>::new());
}

#[test]
fn every_event_that_is_missing_is_missed() {
    let story = true_story();
    let events = story.iter().enumerate();
    for (place, (at, _)) in events.filter(|(_, (_, note))| matches!(note, Note::Said(_))) {
        assert!(!judged(&without(place)).is_empty(), "the event at {at} ms");
    }
}

#[test]
fn every_fault_without_which_an_event_has_no_cause_is_missed() {
    let story = true_story();
    for (place, (at, note)) in story.iter().enumerate() {
        if matches!(note, Note::Done(Fault::Hang | Fault::Fail(..))) {
            assert!(!judged(&without(place)).is_empty(), "the fault at {at} ms");
        }
    }
}

#[test]
fn what_is_said_too_late_is_noticed() {
    // An interval, the timeout, and 250 ms.
    let down = |ms: u64| judged(&instead(2, said(1_000 + ms, "up", "down", "timed_out")));
    assert!(down(649).is_empty());
    assert!(!down(652).is_empty());
    let up = |ms: u64| judged(&instead(9, said(3_500 + ms, "down", "up", "good")));
    assert!(up(380).is_empty());
    assert!(!up(400).is_empty());
    let late = |ms: u64| judged(&instead(4, said(2_000 + ms, "down", "down", "late_answer")));
    assert!(!late(252).is_empty());
    // Marginal for longer than the recovery and an interval.
    assert!(
        !judged(&instead(
            story_len() - 1,
            said(8_000, "marginal", "up", "good")
        ))
        .is_empty()
    );
}

fn story_len() -> usize {
    true_story().len()
}

#[test]
fn what_has_no_cause_is_noticed() {
    let lies = [
        with(said(700, "up", "down", "timed_out")),
        // While it is slow, but in time.
        with(said(4_400, "up", "down", "timed_out")),
        with(said(4_700, "up", "up", "late_answer")),
        with(said(2_500, "up", "marginal", "error_rate")),
        with(said(2_500, "up", "standby", "standby")),
        with(said(2_500, "up", "paused", "command")),
        with(said(2_500, "up", "up", "good")),
    ];
    for lie in lies {
        assert!(!judged(&lie).is_empty(), "{:?}", lie.last());
    }
}

#[test]
fn what_contradicts_the_truth_is_noticed() {
    let lies = [
        // Up while it hangs, or fails; a second too early.
        instead(5, said(1_700, "down", "up", "good")),
        instead(9, said(3_300, "down", "up", "good")),
        // The wrong cause, or errno, or one that says nothing about the disk.
        instead(2, said(1_380, "up", "down", "io_error EIO")),
        instead(2, said(1_380, "up", "down", "unknown")),
        instead(7, said(3_090, "up", "down", "device_gone ENXIO")),
        instead(7, said(3_090, "up", "down", "timed_out")),
        // From a state that it was not in.
        instead(7, said(3_090, "marginal", "down", "io_error EIO")),
        // Up at once although it flapped, or marginal for too short.
        instead(story_len() - 2, said(5_800, "down", "up", "good")),
        instead(story_len() - 1, said(6_500, "marginal", "up", "good")),
    ];
    for lie in lies {
        assert!(!judged(&lie).is_empty(), "{lie:?}");
    }
}

#[test]
fn a_stall_of_the_machine_excuses_what_it_delays_and_nothing_else() {
    let stalled = |at_ms, len_ms, place, other| {
        let mut story = instead(place, other);
        story.insert(place, (at_ms, Note::Stalled(len_ms)));
        judged(&story)
    };
    let down = |ms: u64| said(1_000 + ms, "up", "down", "timed_out");
    assert!(stalled(1_300, 200, 2, down(849)).is_empty());
    assert!(!stalled(1_300, 200, 2, down(852)).is_empty());
    // Before there was anything to delay.
    assert!(!stalled(900, 100, 2, down(652)).is_empty());
    // Not for too short, too soon, or for another reason.
    assert!(!stalled(1_600, 200, 5, said(1_700, "down", "up", "good")).is_empty());
    assert!(
        !stalled(
            3_080,
            200,
            7,
            said(3_090, "up", "down", "device_gone ENXIO")
        )
        .is_empty()
    );
    let spurious = |len_ms| {
        judged(&vec![
            said(10, "pending", "up", "good"),
            (740, Note::Stalled(len_ms)),
            said(750, "up", "down", "timed_out"),
            said(755, "down", "down", "late_answer"),
            said(770, "down", "up", "good"),
        ])
    };
    assert!(spurious(290).is_empty());
    assert!(!spurious(150).is_empty());
}

#[test]
fn a_full_disk_that_fails_all_reads_may_be_kept_up_and_never_comes_up() {
    let failing = Fault::Failing(Duration::from_micros(500));
    let kept = vec![
        said(10, "pending", "up", "good"),
        done(1_000, failing),
        done(2_000, Fault::None),
    ];
    assert_eq!(judged(&kept), [""; 0]);
    let mut down = vec![
        said(10, "pending", "up", "good"),
        done(1_000, failing),
        said(1_200, "up", "down", "io_error EIO"),
        done(2_000, Fault::None),
        said(2_100, "down", "up", "good"),
    ];
    assert_eq!(judged(&down), [""; 0]);
    down[4] = said(1_700, "down", "up", "busy");
    assert_eq!(judged(&down), ["no check of it can have been good"]);
}
