//! Tests that the oracle detects errors: it accepts a valid trace, and rejects the same trace with
//! any one error.

use std::time::Duration;

use pathpulse_chaos::{EventMsg, Fault, Limits, Oracle};

/// Traces are checked until this time.
const END_MS: u64 = 10_000;
const EIO: Fault = Fault::Fail(5, "EIO");

#[derive(Clone, Debug)]
enum TraceEntry {
    Fault(Fault),
    Event(EventMsg),
    /// The machine stalled for this long, until now.
    Stall(u64),
}

type Trace = Vec<(u64, TraceEntry)>;

fn fault(at_ms: u64, fault: Fault) -> (u64, TraceEntry) {
    (at_ms, TraceEntry::Fault(fault))
}

fn event(at_ms: u64, from: &str, to: &str, cause: &str) -> (u64, TraceEntry) {
    let (cause, errno) = cause.split_once(' ').unwrap_or((cause, ""));
    let text = |text: &str| text.to_owned();
    let event = EventMsg {
        path: text("disk"),
        from: text(from),
        to: text(to),
        cause: text(cause),
        errno: (!errno.is_empty()).then(|| text(errno)),
        time: String::new(),
        detail: String::new(),
    };
    (at_ms, TraceEntry::Event(event))
}

fn limits() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        marginal_errors: 1000,
        recovery: ms(1_500),
        ..Limits::new(ms(100), ms(300))
    }
}

/// All violations that the oracle finds in the trace.
fn violations(trace: &Trace) -> Vec<String> {
    let mut oracle = Oracle::new(limits());
    let mut found = Vec::new();
    for ms in 0..END_MS {
        let now = Duration::from_millis(ms);
        for (_, entry) in trace.iter().filter(|(at, _)| *at == ms) {
            match entry {
                TraceEntry::Fault(fault) => {
                    oracle.begin(*fault, now);
                    oracle.action_done(now);
                }
                TraceEntry::Stall(len_ms) => {
                    oracle.stalled(now - Duration::from_millis(*len_ms), now);
                }
                TraceEntry::Event(event) => {
                    found.extend(oracle.observe_event(event, now).violations);
                }
            }
        }
        found.extend(oracle.check_overdue(now).violations);
    }
    found
}

/// A disk hangs, fails, is slow and barely in time, and flaps until it is marginal.
fn valid_trace() -> Trace {
    let mut trace = vec![
        event(10, "pending", "up", "good"),
        fault(1_000, Fault::Hang),
        event(1_380, "up", "down", "timed_out"),
        fault(2_000, Fault::None),
        event(2_001, "down", "down", "late_answer"),
        event(2_030, "down", "up", "good"),
        fault(3_000, EIO),
        event(3_090, "up", "down", "io_error EIO"),
        fault(3_500, Fault::None),
        event(3_620, "down", "up", "good"),
        fault(4_000, Fault::Slow(Duration::from_millis(100))),
        fault(4_600, Fault::None),
    ];
    for at in [5_000, 5_500] {
        trace.push(fault(at, EIO));
        trace.push(event(at + 50, "up", "down", "io_error EIO"));
        trace.push(fault(at + 200, Fault::None));
        let to = if at == 5_000 { "up" } else { "marginal" };
        trace.push(event(at + 300, "down", to, "good"));
    }
    trace.push(event(7_050, "marginal", "up", "good"));
    trace
}

fn removed(index: usize) -> Trace {
    let mut trace = valid_trace();
    trace.remove(index);
    trace
}

fn added(more: (u64, TraceEntry)) -> Trace {
    let mut trace = valid_trace();
    trace.push(more);
    trace
}

fn replaced(index: usize, other: (u64, TraceEntry)) -> Trace {
    let mut trace = valid_trace();
    trace[index] = other;
    trace
}

#[test]
fn the_valid_trace_is_accepted() {
    assert_eq!(violations(&valid_trace()), Vec::<String>::new());
}

#[test]
fn every_missing_event_is_detected() {
    let trace = valid_trace();
    let events = trace.iter().enumerate();
    for (index, (at, _)) in events.filter(|(_, (_, entry))| matches!(entry, TraceEntry::Event(_))) {
        assert!(
            !violations(&removed(index)).is_empty(),
            "the event at {at} ms"
        );
    }
}

#[test]
fn every_event_without_its_fault_is_detected() {
    let trace = valid_trace();
    for (index, (at, entry)) in trace.iter().enumerate() {
        if matches!(entry, TraceEntry::Fault(Fault::Hang | Fault::Fail(..))) {
            assert!(
                !violations(&removed(index)).is_empty(),
                "the fault at {at} ms"
            );
        }
    }
}

#[test]
fn late_events_are_detected() {
    // An interval, the timeout, and 250 ms.
    let down = |ms: u64| violations(&replaced(2, event(1_000 + ms, "up", "down", "timed_out")));
    assert!(down(649).is_empty());
    assert!(!down(652).is_empty());
    let up = |ms: u64| violations(&replaced(9, event(3_500 + ms, "down", "up", "good")));
    assert!(up(380).is_empty());
    assert!(!up(400).is_empty());
    let late = |ms: u64| {
        violations(&replaced(
            4,
            event(2_000 + ms, "down", "down", "late_answer"),
        ))
    };
    assert!(!late(252).is_empty());
    // Marginal for longer than the recovery and an interval.
    assert!(
        !violations(&replaced(
            trace_len() - 1,
            event(8_000, "marginal", "up", "good")
        ))
        .is_empty()
    );
}

fn trace_len() -> usize {
    valid_trace().len()
}

#[test]
fn events_without_a_cause_are_detected() {
    let invalid_traces = [
        added(event(700, "up", "down", "timed_out")),
        // While it is slow, but in time.
        added(event(4_400, "up", "down", "timed_out")),
        added(event(4_700, "up", "up", "late_answer")),
        added(event(2_500, "up", "marginal", "error_rate")),
        added(event(2_500, "up", "standby", "standby")),
        added(event(2_500, "up", "paused", "command")),
        added(event(2_500, "up", "up", "good")),
    ];
    for trace in invalid_traces {
        assert!(!violations(&trace).is_empty(), "{:?}", trace.last());
    }
}

#[test]
fn events_that_contradict_the_model_are_detected() {
    let invalid_traces = [
        // Up while it hangs or fails; a second too early.
        replaced(5, event(1_700, "down", "up", "good")),
        replaced(9, event(3_300, "down", "up", "good")),
        // The wrong cause or errno, or a cause that says nothing about the disk.
        replaced(2, event(1_380, "up", "down", "io_error EIO")),
        replaced(2, event(1_380, "up", "down", "unknown")),
        replaced(7, event(3_090, "up", "down", "device_gone ENXIO")),
        replaced(7, event(3_090, "up", "down", "timed_out")),
        // From a state that it was not in.
        replaced(7, event(3_090, "marginal", "down", "io_error EIO")),
        // Up at once although it flapped, or marginal for too short a time.
        replaced(trace_len() - 2, event(5_800, "down", "up", "good")),
        replaced(trace_len() - 1, event(6_500, "marginal", "up", "good")),
    ];
    for trace in invalid_traces {
        assert!(!violations(&trace).is_empty(), "{trace:?}");
    }
}

#[test]
fn a_stall_excuses_only_the_events_that_it_delays() {
    let stalled = |at_ms, len_ms, index, other| {
        let mut trace = replaced(index, other);
        trace.insert(index, (at_ms, TraceEntry::Stall(len_ms)));
        violations(&trace)
    };
    let down = |ms: u64| event(1_000 + ms, "up", "down", "timed_out");
    assert!(stalled(1_300, 200, 2, down(849)).is_empty());
    assert!(!stalled(1_300, 200, 2, down(852)).is_empty());
    // Before there was anything to delay.
    assert!(!stalled(900, 100, 2, down(652)).is_empty());
    // Not for too short a time, too early, or for another reason.
    assert!(!stalled(1_600, 200, 5, event(1_700, "down", "up", "good")).is_empty());
    assert!(
        !stalled(
            3_080,
            200,
            7,
            event(3_090, "up", "down", "device_gone ENXIO")
        )
        .is_empty()
    );
    let spurious = |len_ms| {
        violations(&vec![
            event(10, "pending", "up", "good"),
            (740, TraceEntry::Stall(len_ms)),
            event(750, "up", "down", "timed_out"),
            event(755, "down", "down", "late_answer"),
            event(770, "down", "up", "good"),
        ])
    };
    assert!(spurious(290).is_empty());
    assert!(!spurious(150).is_empty());
}

#[test]
fn a_saturated_failing_disk_may_be_kept_up_and_never_comes_up() {
    let failing = Fault::Failing(Duration::from_micros(500));
    let kept = vec![
        event(10, "pending", "up", "good"),
        fault(1_000, failing),
        fault(2_000, Fault::None),
    ];
    assert_eq!(violations(&kept), [""; 0]);
    let mut down = vec![
        event(10, "pending", "up", "good"),
        fault(1_000, failing),
        event(1_200, "up", "down", "io_error EIO"),
        fault(2_000, Fault::None),
        event(2_100, "down", "up", "good"),
    ];
    assert_eq!(violations(&down), [""; 0]);
    down[4] = event(1_700, "down", "up", "busy");
    assert_eq!(violations(&down), ["no check can have been good"]);
}
