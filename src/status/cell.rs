//! The status of a path: written by its worker, read by anyone, without a lock.
//!
//! One worker writes a cell, with plain stores. State, cause and since belong together, so they are
//! guarded by a sequence number: odd while they are written, and a reader that sees it change
//! reads again. Counters and latencies stand for themselves.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::{Errno, Mono};

use crate::health::{Cause, State, UnknownReason, VerdictKind};
use crate::status::{Latency, PathInfo, Window};

/// A verdict may come so much later than its check should have ended before the path counts as
/// overdue: checks of a second that are due together, the slots of the schedule, a busy host.
pub const OVERDUE_GRACE: Duration = Duration::from_secs(1);

/// How a path is, at one moment.
#[derive(Clone, Debug)]
pub struct PathStatus {
    /// What it is.
    pub path: Arc<PathInfo>,
    /// What its verdicts add up to.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Since when it is in that state, by the wall clock.
    pub since: SystemTime,
    /// When a check last said something about the device, by the wall clock; `None` if none did yet.
    /// A verdict [`VerdictKind::Unknown`] says nothing about it. A read that is stuck says at each
    /// time of its path that it still is.
    pub checked_at: Option<SystemTime>,
    /// How long ago that was, by the monotonic clock.
    pub verdict_age: Option<Duration>,
    /// The next verdict should have been there: its check was planned for a time that passed longer
    /// ago than its timeout and [`OVERDUE_GRACE`]. The state is what was known then. It needs no
    /// word of the worker, so it shows also when that hangs or is dead. Never of a paused path.
    pub overdue: bool,
    /// How fast it answered lately; `None` if it never did.
    pub latency_us: Option<Latency>,
    /// Whether it is read with `RWF_NOWAIT`; `None` if no read has shown yet.
    pub nowait: Option<bool>,
    /// Why its last check said nothing about the device; `None` if it said something.
    pub unknown: Option<UnknownReason>,
    /// Whether a thread of its own reads it, since its driver may put the thread that submits a read
    /// to sleep. Such a thread keeps the process from ending while the driver holds it.
    pub isolated: bool,
    /// How long a read has been stuck in the kernel, beyond its deadline.
    pub stuck: Option<Duration>,
    /// How long the check has been going on that is going on.
    pub in_flight: Option<Duration>,
    /// How long the path has owed a good answer: since the first check after the last good one began.
    /// `None` if it answered when it was asked last.
    pub unanswered: Option<Duration>,
    /// Changes of state so far.
    pub transitions: u64,
    /// Verdicts so far, by kind.
    pub checks: Counts,
}

/// How many verdicts of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; VerdictKind::ALL.len()]);

impl Counts {
    /// How many of one kind.
    pub fn of(&self, kind: VerdictKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many of all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// [`UnknownReason::code`] of the last check; 0 if that said something.
const UNKNOWN: u16 = (1 << 13) - 1;
/// It is read with `RWF_NOWAIT`, or without; neither as long as no read has shown.
const NOWAIT: u16 = 1 << 13;
const PLAIN: u16 = 1 << 14;
/// A thread of its own reads it.
const ISOLATED: u16 = 1 << 15;

/// The shared memory of one path's status. What a healthy check touches comes first and fits a cache
/// line; of the rest it touches one place of the window.
#[repr(C)]
pub(crate) struct StatusCell {
    sequence: AtomicU32,
    /// How it is read, and why its last check said nothing: see [`UNKNOWN`] and those beside it. Only the
    /// worker writes it.
    flags: AtomicU16,
    word: AtomicU64,
    counts: [AtomicU32; VerdictKind::ALL.len()],
    transitions: AtomicU32,
    since_ns: AtomicU64,
    /// On the monotonic clock; 0: no verdict yet that says something about the device.
    checked_ns: AtomicU64,
    /// By when the next such verdict is to be there, on the monotonic clock; 0: nobody expects one.
    expected_by_ns: AtomicU64,
    /// On the monotonic clock; 0: nothing is owed.
    owed_since_ns: AtomicU64,
    /// On the monotonic clock; 0: no check is going on.
    begun_ns: AtomicU64,
    /// On the monotonic clock; 0: no read is stuck.
    stuck_since_ns: AtomicU64,
    /// Replaced when the name leads to another device; the worker waits for no lock of a reader's,
    /// which last for the copy of a pointer.
    info: RwLock<Arc<PathInfo>>,
    pub(crate) window: Window,
}

impl StatusCell {
    pub(crate) fn new(info: Arc<PathInfo>) -> StatusCell {
        StatusCell {
            info: RwLock::new(info),
            sequence: AtomicU32::new(0),
            word: AtomicU64::new(pack(State::Pending, Cause::NotChecked)),
            since_ns: AtomicU64::new(unix_ns(SystemTime::now())),
            flags: AtomicU16::new(0),
            checked_ns: AtomicU64::new(0),
            expected_by_ns: AtomicU64::new(0),
            owed_since_ns: AtomicU64::new(0),
            begun_ns: AtomicU64::new(0),
            stuck_since_ns: AtomicU64::new(0),
            transitions: AtomicU32::new(0),
            counts: Default::default(),
            window: Window::default(),
        }
    }

    pub(crate) fn info(&self) -> Arc<PathInfo> {
        Arc::clone(&self.info.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The name leads to another device now.
    pub(crate) fn set_info(&self, info: Arc<PathInfo>) {
        *self.info.write().unwrap_or_else(PoisonError::into_inner) = info;
    }

    /// Counts a verdict. For the worker only, as all that writes.
    pub(crate) fn count(&self, kind: VerdictKind) {
        bump(&self.counts[kind as usize]);
    }

    pub(crate) fn set_state(&self, state: State, cause: Cause, since: SystemTime) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        bump(&self.transitions);
        if state == State::Paused {
            self.owed_since_ns.store(0, Relaxed);
        }
        self.word.store(pack(state, cause), Relaxed);
        self.since_ns.store(unix_ns(since), Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Release);
    }

    /// The cause has changed and the state has not.
    pub(crate) fn set_cause(&self, state: State, cause: Cause) {
        let word = pack(state, cause);
        if self.word.load(Relaxed) != word {
            self.word.store(word, Relaxed);
        }
    }

    /// A check begins: from now on the path owes an answer, unless it did so before.
    pub(crate) fn owe_since(&self, now: Mono) {
        let ns = now.as_nanos().max(1);
        self.begun_ns.store(ns, Relaxed);
        if self.owed_since_ns.load(Relaxed) == 0 {
            self.owed_since_ns.store(ns, Relaxed);
        }
    }

    /// The check has ended so. A good answer settles what was owed; a bad one does not, nor does one that
    /// says nothing: nobody knows then.
    pub(crate) fn settle_owed(&self, kind: VerdictKind) {
        self.begun_ns.store(0, Relaxed);
        if matches!(
            kind,
            VerdictKind::Good | VerdictKind::Busy | VerdictKind::Standby
        ) {
            self.owed_since_ns.store(0, Relaxed);
        }
    }

    /// At `now` something was known of the device.
    pub(crate) fn known_at(&self, now: Mono) {
        self.checked_ns.store(now.as_nanos().max(1), Relaxed);
    }

    /// The next check is planned for `due` and has `timeout`.
    pub(crate) fn expect_verdict(&self, due: Mono, timeout: Duration) {
        let by = due + timeout + OVERDUE_GRACE;
        self.expected_by_ns.store(by.as_nanos(), Relaxed);
    }

    /// Why the last check said nothing, if it did not.
    pub(crate) fn set_unknown(&self, why: Option<UnknownReason>) {
        self.set_flags(UNKNOWN, why.map_or(0, UnknownReason::code));
    }

    pub(crate) fn set_nowait(&self, nowait: bool) {
        self.set_flags(NOWAIT | PLAIN, if nowait { NOWAIT } else { PLAIN });
    }

    pub(crate) fn set_isolated(&self, isolated: bool) {
        self.set_flags(ISOLATED, if isolated { ISOLATED } else { 0 });
    }

    fn set_flags(&self, mask: u16, flags: u16) {
        debug_assert_eq!(flags & !mask, 0);
        let others = self.flags.load(Relaxed) & !mask;
        self.flags.store(others | flags, Relaxed);
    }

    pub(crate) fn set_stuck(&self, since: Option<Mono>) {
        let ns = since.map_or(0, Mono::as_nanos);
        self.stuck_since_ns.store(ns, Relaxed);
    }

    /// How the path is now.
    pub(crate) fn snapshot(&self) -> PathStatus {
        self.snapshot_at(Mono::now())
    }

    /// How the path is at `now`, on the clock of its worker.
    pub(crate) fn snapshot_at(&self, now: Mono) -> PathStatus {
        let (word, since_ns) = self.state_word();
        let (state, cause) = unpack(word);
        let age = |ns: &AtomicU64| age(ns.load(Relaxed), now);
        let verdict_age = age(&self.checked_ns);
        let expected_by_ns = self.expected_by_ns.load(Relaxed);
        let flags = self.flags.load(Relaxed);
        PathStatus {
            path: self.info(),
            state,
            cause,
            since: SystemTime::UNIX_EPOCH + Duration::from_nanos(since_ns),
            checked_at: verdict_age.and_then(|age| SystemTime::now().checked_sub(age)),
            verdict_age,
            overdue: state != State::Paused
                && expected_by_ns > 0
                && now > Mono::from_nanos(expected_by_ns),
            latency_us: self.window.latency(),
            unknown: UnknownReason::from_code(flags & UNKNOWN),
            nowait: match flags & (NOWAIT | PLAIN) {
                NOWAIT => Some(true),
                PLAIN => Some(false),
                _ => None,
            },
            isolated: flags & ISOLATED != 0,
            stuck: age(&self.stuck_since_ns),
            in_flight: age(&self.begun_ns),
            unanswered: age(&self.owed_since_ns),
            transitions: u64::from(self.transitions.load(Relaxed)),
            checks: Counts(std::array::from_fn(|i| {
                u64::from(self.counts[i].load(Relaxed))
            })),
        }
    }

    fn state_word(&self) -> (u64, u64) {
        loop {
            let before = self.sequence.load(Acquire);
            let read = (self.word.load(Relaxed), self.since_ns.load(Relaxed));
            fence(Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Relaxed) == before {
                return read;
            }
            std::hint::spin_loop();
        }
    }
}

/// How long ago a moment was; 0 is none.
fn age(ns: u64, now: Mono) -> Option<Duration> {
    (ns > 0).then(|| now.since(Mono::from_nanos(ns)))
}

/// One writer: a load and a store cost less than an atomic addition.
fn bump(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// State, cause and errno as one word: bits 0-7, 8-15 and 16-31.
fn pack(state: State, cause: Cause) -> u64 {
    const VERDICTS: u64 = VerdictKind::ALL.len() as u64;
    let cause_bits = match cause {
        Cause::Verdict(kind, _) => kind as u64,
        Cause::NotChecked => VERDICTS,
        Cause::ErrorRate => VERDICTS + 1,
        Cause::Flapping => VERDICTS + 2,
        Cause::Command => VERDICTS + 3,
        Cause::LateAnswer => VERDICTS + 4,
        Cause::Slow => VERDICTS + 5,
        Cause::LastUsable => VERDICTS + 6,
        Cause::LeadsElsewhere => VERDICTS + 7,
    };
    let errno = cause
        .errno()
        .map_or(0, |errno| u64::from(errno.raw().unsigned_abs()));
    state as u64 | cause_bits << 8 | errno << 16
}

fn unpack(word: u64) -> (State, Cause) {
    let byte = |shift| usize::from((word >> shift) as u8);
    let errno = match (word >> 16) as i32 {
        0 => None,
        raw => Some(Errno::from_raw(raw)),
    };
    let state = State::ALL.get(byte(0)).copied().unwrap_or_default();
    let cause = match VerdictKind::ALL.get(byte(8)) {
        Some(kind) => Cause::Verdict(*kind, errno),
        None => match byte(8) - VerdictKind::ALL.len() {
            1 => Cause::ErrorRate,
            2 => Cause::Flapping,
            3 => Cause::Command,
            4 => Cause::LateAnswer,
            5 => Cause::Slow,
            6 => Cause::LastUsable,
            7 => Cause::LeadsElsewhere,
            _ => Cause::NotChecked,
        },
    };
    (state, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceId;
    use std::sync::atomic::AtomicBool;

    fn cell() -> StatusCell {
        let id = DeviceId::Block { major: 7, minor: 0 };
        StatusCell::new(Arc::new(PathInfo::new("/dev/loop0".into(), id, None)))
    }

    #[test]
    fn every_state_and_cause_survives_its_word() {
        let verdicts = VerdictKind::ALL.map(|kind| Cause::Verdict(kind, None));
        let others = [
            Cause::NotChecked,
            Cause::ErrorRate,
            Cause::Flapping,
            Cause::Command,
            Cause::LateAnswer,
            Cause::Slow,
            Cause::LastUsable,
            Cause::LeadsElsewhere,
            Cause::Verdict(VerdictKind::Failed, Some(Errno::EREMOTEIO)),
        ];
        for state in State::ALL {
            for cause in verdicts.into_iter().chain(others) {
                assert_eq!(unpack(pack(state, cause)), (state, cause));
            }
        }
    }

    #[test]
    fn verdicts_are_counted_and_timed() {
        let cell = cell();
        for ms in 1..=3 {
            cell.count(VerdictKind::Good);
            cell.window.count(ms * 1000);
        }
        cell.count(VerdictKind::Saturated);
        let status = cell.snapshot();
        assert_eq!(status.checks.of(VerdictKind::Good), 3);
        assert_eq!(status.checks.of(VerdictKind::Saturated), 1);
        assert_eq!(status.checks.total(), 4);
        let latency = status.latency_us.expect("some were good");
        assert!(latency.last.abs_diff(3000) < 3 && latency.p50.abs_diff(2000) < 2);
    }

    #[test]
    fn a_reader_never_sees_half_a_change() {
        let cell = cell();
        let stop = AtomicBool::new(false);
        let good = Cause::Verdict(VerdictKind::Good, None);
        let failed = Cause::Verdict(VerdictKind::Failed, Some(Errno::EIO));
        let since = |up| SystemTime::UNIX_EPOCH + Duration::from_secs(if up { 1 } else { 2 });
        cell.set_state(State::Up, good, since(true));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200_000 {
                    let up = round % 2 == 0;
                    let (state, cause) = if up {
                        (State::Up, good)
                    } else {
                        (State::Down, failed)
                    };
                    cell.set_state(state, cause, since(up));
                }
                stop.store(true, Relaxed);
            });
            while !stop.load(Relaxed) {
                let status = cell.snapshot();
                let up = status.state == State::Up;
                assert_eq!(status.since, since(up));
                assert_eq!(status.cause, if up { good } else { failed });
            }
        });
    }
}
