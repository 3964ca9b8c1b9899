//! The status of a path. One worker writes it, any thread reads it, without a lock.
//!
//! The worker writes with plain stores. State, cause and since belong together, so a sequence
//! number guards them: it is odd while they are being written, and a reader that sees it change
//! reads again. Counters and latencies are independent of each other.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::Mono;

use crate::health::{Cause, State, UnknownReason, VerdictKind};
use crate::status::packed::{pack, unpack};
use crate::status::{Counts, OVERDUE_GRACE, PathInfo, PathStatus, Window};

/// [`UnknownReason::code`] of the last check; 0 if the check gave information about the device.
const UNKNOWN: u16 = (1 << 13) - 1;
/// Reads use `RWF_NOWAIT`, or do not. Neither bit is set until a read has shown it.
const NOWAIT: u16 = 1 << 13;
const PLAIN: u16 = 1 << 14;
/// A thread of its own reads this path.
const ISOLATED: u16 = 1 << 15;

/// The shared memory of one path's status. The fields that a healthy check touches come first and
/// fit into one cache line; besides them it touches one entry of the window.
#[repr(C)]
pub(crate) struct StatusCell {
    sequence: AtomicU32,
    /// How the path is read, and why its last check gave no information: [`UNKNOWN`] and the
    /// constants after it. Only the worker writes this.
    flags: AtomicU16,
    word: AtomicU64,
    counts: [AtomicU32; VerdictKind::ALL.len()],
    transitions: AtomicU32,
    since_ns: AtomicU64,
    /// Time of the last verdict about the device, on the monotonic clock; 0: none yet.
    checked_ns: AtomicU64,
    /// When the next verdict about the device is late, on the monotonic clock; 0: none is expected.
    expected_by_ns: AtomicU64,
    /// When the first check without a good answer began, on the monotonic clock; 0: none.
    unanswered_since_ns: AtomicU64,
    /// When the running check began, on the monotonic clock; 0: none is running.
    begun_ns: AtomicU64,
    /// When the stuck read passed its deadline, on the monotonic clock; 0: none is stuck.
    stuck_since_ns: AtomicU64,
    /// Replaced when the name leads to another device. Readers hold this lock only while they copy
    /// a pointer, so the worker does not wait for it.
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
            unanswered_since_ns: AtomicU64::new(0),
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

    /// Replaces the identity: its device, its name or its details changed.
    pub(crate) fn set_info(&self, info: Arc<PathInfo>) {
        *self.info.write().unwrap_or_else(PoisonError::into_inner) = info;
    }

    /// Counts a verdict. Only the worker may call this and all other functions that write.
    pub(crate) fn count(&self, kind: VerdictKind) {
        bump(&self.counts[kind as usize]);
    }

    pub(crate) fn set_state(&self, state: State, cause: Cause, since: SystemTime) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        bump(&self.transitions);
        if state == State::Paused {
            self.unanswered_since_ns.store(0, Relaxed);
        }
        self.word.store(pack(state, cause), Relaxed);
        self.since_ns.store(unix_ns(since), Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Release);
    }

    /// The cause changed, but not the state.
    pub(crate) fn set_cause(&self, state: State, cause: Cause) {
        let word = pack(state, cause);
        if self.word.load(Relaxed) != word {
            self.word.store(word, Relaxed);
        }
    }

    /// A check begins. Unless an earlier check is still without a good answer, this is the first
    /// one.
    pub(crate) fn begin_check(&self, now: Mono) {
        let ns = now.as_nanos().max(1);
        self.begun_ns.store(ns, Relaxed);
        if self.unanswered_since_ns.load(Relaxed) == 0 {
            self.unanswered_since_ns.store(ns, Relaxed);
        }
    }

    /// The check ended. A good answer resets the time without an answer. A bad verdict does not,
    /// nor does one without information about the device.
    pub(crate) fn end_check(&self, kind: VerdictKind) {
        self.begun_ns.store(0, Relaxed);
        if matches!(
            kind,
            VerdictKind::Good | VerdictKind::Busy | VerdictKind::Standby
        ) {
            self.unanswered_since_ns.store(0, Relaxed);
        }
    }

    /// Records that a verdict about the device was there at `now`.
    pub(crate) fn set_checked_at(&self, now: Mono) {
        self.checked_ns.store(now.as_nanos().max(1), Relaxed);
    }

    /// The next check is planned for `due` and takes up to `timeout`.
    pub(crate) fn expect_verdict(&self, due: Mono, timeout: Duration) {
        let by = due + timeout + OVERDUE_GRACE;
        self.expected_by_ns.store(by.as_nanos(), Relaxed);
    }

    /// Why the last check gave no information about the device, if so.
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

    /// The status now.
    pub(crate) fn snapshot(&self) -> PathStatus {
        self.snapshot_at(Mono::now())
    }

    /// The status at `now`, on the clock of the worker.
    pub(crate) fn snapshot_at(&self, now: Mono) -> PathStatus {
        let (word, since_ns) = self.state_word();
        let (state, cause) = unpack(word);
        let age = |ns: &AtomicU64| age(ns.load(Relaxed), now);
        let verdict_age = age(&self.checked_ns);
        let stuck = age(&self.stuck_since_ns);
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
            stuck,
            in_flight: age(&self.begun_ns),
            // A path is down by its stuck read, also if the device completed other requests after
            // that was submitted. A mirror may be up although one of its disks holds a read.
            unanswered: age(&self.unanswered_since_ns).max(stuck.filter(|_| state == State::Down)),
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

/// Time since a moment; 0 stands for no moment.
fn age(ns: u64, now: Mono) -> Option<Duration> {
    (ns > 0).then(|| now.since(Mono::from_nanos(ns)))
}

/// With one writer, a load and a store are enough, and cost less than an atomic addition.
fn bump(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceId;
    use pathpulse_kernel_compat::Errno;
    use std::sync::atomic::AtomicBool;

    fn cell() -> StatusCell {
        let id = DeviceId::Block { major: 7, minor: 0 };
        StatusCell::new(Arc::new(PathInfo::new("/dev/loop0".into(), id, None)))
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
    fn a_down_path_with_a_stuck_read_is_unanswered_whatever_other_requests_show() {
        let cell = cell();
        let busy = Cause::Verdict(VerdictKind::Busy, None);
        let timed_out = Cause::Verdict(VerdictKind::TimedOut, None);
        let at = |ms| Mono::from_nanos(1_000_000_000) + Duration::from_millis(ms);
        cell.begin_check(at(0));
        cell.end_check(VerdictKind::Busy);
        cell.set_stuck(Some(at(100)));
        // A disk of a mirror holds the read, and the other one works.
        cell.set_state(State::Up, busy, SystemTime::UNIX_EPOCH);
        assert_eq!(cell.snapshot_at(at(600)).unanswered, None);
        cell.set_state(State::Down, timed_out, SystemTime::UNIX_EPOCH);
        let status = cell.snapshot_at(at(600));
        assert_eq!(status.unanswered, Some(Duration::from_millis(500)));
        cell.set_stuck(None);
        assert_eq!(cell.snapshot_at(at(600)).unanswered, None);
        cell.begin_check(at(700));
        cell.end_check(VerdictKind::TimedOut);
        cell.set_stuck(Some(at(800)));
        let status = cell.snapshot_at(at(900));
        assert_eq!(status.unanswered, Some(Duration::from_millis(200)));
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
