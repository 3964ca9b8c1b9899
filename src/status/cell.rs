//! The status of a path. One worker writes it, any thread reads it, without a lock.
//!
//! The worker writes with plain stores. State, cause and since belong together, so a sequence
//! number guards them: it is odd while they are being written, and a reader that sees it change
//! reads again. Counters and latencies are independent of each other.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use pathpulse_kernel_compat::{Mono, Words};

use crate::health::{Cause, SAVED_WORDS, Saved, State, UnknownReason, VerdictKind, pack, unpack};
use crate::status::window::{self, Window};
use crate::status::{Counts, OVERDUE_GRACE, PathInfo, PathStatus};

/// Places of the words. Those that a healthy check touches come first and fit into one cache line;
/// besides them it touches one entry of the window.
///
/// State, cause and errno, as `health/packed.rs` packs them.
const STATE: usize = 0;
/// Flags in the lower half, the number of transitions in the upper half.
const FLAGS: usize = 1;
/// The numbers of verdicts of each kind, two in each word.
const COUNTS: usize = 2;
const COUNTS_WORDS: usize = VerdictKind::ALL.len().div_ceil(2);
/// Time of the last verdict about the device, on the monotonic clock in ns; 0: none yet. The
/// following times are on this clock, too.
const CHECKED: usize = COUNTS + COUNTS_WORDS;
/// When the next verdict about the device is late; 0: none is expected.
const EXPECTED_BY: usize = CHECKED + 1;
/// When the first check without a good answer began; 0: none.
const UNANSWERED_SINCE: usize = EXPECTED_BY + 1;
/// When the running check began; 0: none is running.
const BEGUN: usize = UNANSWERED_SINCE + 1;
/// When the stuck read passed its deadline; 0: none is stuck.
const STUCK_SINCE: usize = BEGUN + 1;
/// Odd while state and since are being written.
const SEQUENCE: usize = STUCK_SINCE + 1;
/// When the path entered its state, in ns since 1970.
const SINCE: usize = SEQUENCE + 1;
const WINDOW: usize = SINCE + 1;
/// Number of words of a cell in the memory of one process.
pub(crate) const CELL_WORDS: usize = WINDOW + window::WORDS;
/// In shared memory the health follows, with which another reader continues. First a sequence
/// number that is odd while the health is being written.
const SAVED_SEQUENCE: usize = CELL_WORDS;
const SAVED: usize = SAVED_SEQUENCE + 1;
/// Number of words of a cell in shared memory.
pub(crate) const SHARED_CELL_WORDS: usize = SAVED + SAVED_WORDS;

/// [`UnknownReason::code`] of the last check; 0 if the check gave information about the device.
const UNKNOWN: u64 = (1 << 13) - 1;
/// Reads use `RWF_NOWAIT`, or do not. Neither bit is set until a read has shown it.
const NOWAIT: u64 = 1 << 13;
const PLAIN: u64 = 1 << 14;
/// A thread of its own reads this path.
const ISOLATED: u64 = 1 << 15;
const TRANSITIONS_SHIFT: u32 = 32;

/// The status of one path: words that the worker writes, and the identity of the path.
pub(crate) struct StatusCell {
    /// [`CELL_WORDS`] words, in the memory of this process or in one shared with a reader.
    words: Words,
    /// Replaced when the name leads to another device. Readers hold this lock only while they copy
    /// a pointer, so the worker does not wait for it.
    info: RwLock<Arc<PathInfo>>,
}

impl StatusCell {
    /// A cell in the memory of this process, for a path that was not checked yet.
    pub(crate) fn new(info: Arc<PathInfo>) -> StatusCell {
        let cell = StatusCell::over(info, Words::on_heap(CELL_WORDS));
        cell.reset();
        cell
    }

    /// Makes it the cell of a path that was not checked yet.
    pub(crate) fn reset(&self) {
        self.words.clear();
        self.words[STATE].store(pack(State::Pending, Cause::NotChecked), Relaxed);
        self.words[SINCE].store(unix_ns(SystemTime::now()), Relaxed);
    }

    /// A cell over these words as they are.
    pub(crate) fn over(info: Arc<PathInfo>, words: Words) -> StatusCell {
        assert!(words.len() >= CELL_WORDS, "too few words for a cell");
        StatusCell {
            words,
            info: RwLock::new(info),
        }
    }

    /// The latencies of the last checks.
    pub(crate) fn window(&self) -> Window<'_> {
        Window::over(&self.words[WINDOW..CELL_WORDS])
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
        let half = kind as usize;
        let one = 1 << (half % 2 * 32);
        let word = &self.words[COUNTS + half / 2];
        // A half that overflows must not carry into the other one.
        let before = word.load(Relaxed);
        let mask = u64::from(u32::MAX) * one;
        word.store(
            (before & !mask) | (before.wrapping_add(one) & mask),
            Relaxed,
        );
    }

    pub(crate) fn set_state(&self, state: State, cause: Cause, since: SystemTime) {
        let sequence = self.words[SEQUENCE].load(Relaxed);
        self.words[SEQUENCE].store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        let flags = self.words[FLAGS].load(Relaxed);
        let transitions = flags.wrapping_add(1 << TRANSITIONS_SHIFT);
        self.words[FLAGS].store(transitions, Relaxed);
        if state == State::Paused {
            self.words[UNANSWERED_SINCE].store(0, Relaxed);
        }
        self.words[STATE].store(pack(state, cause), Relaxed);
        self.words[SINCE].store(unix_ns(since), Relaxed);
        self.words[SEQUENCE].store(sequence.wrapping_add(2), Release);
    }

    /// The cause changed, but not the state.
    pub(crate) fn set_cause(&self, state: State, cause: Cause) {
        let word = pack(state, cause);
        if self.words[STATE].load(Relaxed) != word {
            self.words[STATE].store(word, Relaxed);
        }
    }

    /// A check begins. Unless an earlier check is still without a good answer, this is the first
    /// one.
    pub(crate) fn begin_check(&self, now: Mono) {
        let ns = now.as_nanos().max(1);
        self.words[BEGUN].store(ns, Relaxed);
        if self.words[UNANSWERED_SINCE].load(Relaxed) == 0 {
            self.words[UNANSWERED_SINCE].store(ns, Relaxed);
        }
    }

    /// The check ended. A good answer resets the time without an answer. A bad verdict does not,
    /// nor does one without information about the device.
    pub(crate) fn end_check(&self, kind: VerdictKind) {
        self.words[BEGUN].store(0, Relaxed);
        if matches!(
            kind,
            VerdictKind::Good | VerdictKind::Busy | VerdictKind::Standby
        ) {
            self.words[UNANSWERED_SINCE].store(0, Relaxed);
        }
    }

    /// Saves the health for another reader, if the cell has room for it.
    pub(crate) fn save(&self, saved: impl FnOnce() -> Saved) {
        if self.words.len() < SHARED_CELL_WORDS {
            return;
        }
        let sequence = self.words[SAVED_SEQUENCE].load(Relaxed);
        self.words[SAVED_SEQUENCE].store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        for (word, value) in self.words[SAVED..].iter().zip(saved().0) {
            word.store(value, Relaxed);
        }
        self.words[SAVED_SEQUENCE].store(sequence.wrapping_add(2), Release);
    }

    /// The health that a reader saved which no longer runs. If it ended while it was writing, only
    /// the published state and its cause are left.
    pub(crate) fn saved(&self, now: Mono) -> Saved {
        let sequence = match self.words.get(SAVED_SEQUENCE) {
            Some(sequence) => sequence.load(Acquire),
            None => 0,
        };
        if sequence == 0 || !sequence.is_multiple_of(2) {
            let (state, cause) = unpack(self.words[STATE].load(Relaxed));
            return Saved::of_state(state, cause, now);
        }
        Saved(std::array::from_fn(|nth| {
            self.words[SAVED + nth].load(Relaxed)
        }))
    }

    /// Copies the cell of a reader that no longer runs, for another one: its check and its stuck
    /// read stay behind.
    pub(crate) fn copy_from(&self, old: &StatusCell) {
        self.words.copy_from(&old.words);
        let sequence = &self.words[SEQUENCE];
        // The old reader may have ended while it was writing.
        sequence.store(sequence.load(Relaxed) & !1, Release);
        self.words[BEGUN].store(0, Relaxed);
        self.words[STUCK_SINCE].store(0, Relaxed);
    }

    /// Records that a verdict about the device was there at `now`.
    pub(crate) fn set_checked_at(&self, now: Mono) {
        self.words[CHECKED].store(now.as_nanos().max(1), Relaxed);
    }

    /// The next check is planned for `due` and takes up to `timeout`.
    pub(crate) fn expect_verdict(&self, due: Mono, timeout: Duration) {
        let by = due + timeout + OVERDUE_GRACE;
        self.words[EXPECTED_BY].store(by.as_nanos(), Relaxed);
    }

    /// Why the last check gave no information about the device, if so.
    pub(crate) fn set_unknown(&self, why: Option<UnknownReason>) {
        self.set_flags(UNKNOWN, why.map_or(0, |why| u64::from(why.code())));
    }

    pub(crate) fn set_nowait(&self, nowait: bool) {
        self.set_flags(NOWAIT | PLAIN, if nowait { NOWAIT } else { PLAIN });
    }

    pub(crate) fn set_isolated(&self, isolated: bool) {
        self.set_flags(ISOLATED, if isolated { ISOLATED } else { 0 });
    }

    fn set_flags(&self, mask: u64, flags: u64) {
        debug_assert_eq!(flags & !mask, 0);
        let word = &self.words[FLAGS];
        word.store((word.load(Relaxed) & !mask) | flags, Relaxed);
    }

    pub(crate) fn set_stuck(&self, since: Option<Mono>) {
        let ns = since.map_or(0, Mono::as_nanos);
        self.words[STUCK_SINCE].store(ns, Relaxed);
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
        let verdict_age = age(&self.words[CHECKED]);
        let stuck = age(&self.words[STUCK_SINCE]);
        let expected_by_ns = self.words[EXPECTED_BY].load(Relaxed);
        let flags = self.words[FLAGS].load(Relaxed);
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
            latency_us: self.window().latency(),
            unknown: UnknownReason::from_code((flags & UNKNOWN) as u16),
            nowait: match flags & (NOWAIT | PLAIN) {
                NOWAIT => Some(true),
                PLAIN => Some(false),
                _ => None,
            },
            isolated: flags & ISOLATED != 0,
            stuck,
            in_flight: age(&self.words[BEGUN]),
            // A path is down by its stuck read, also if the device completed other requests after
            // that was submitted. A mirror may be up although one of its disks holds a read.
            unanswered: age(&self.words[UNANSWERED_SINCE])
                .max(stuck.filter(|_| state == State::Down)),
            transitions: flags >> TRANSITIONS_SHIFT,
            checks: Counts(std::array::from_fn(|kind| self.count_of(kind))),
        }
    }

    /// The number of verdicts of the kind with this number.
    fn count_of(&self, kind: usize) -> u64 {
        let word = self.words[COUNTS + kind / 2].load(Relaxed);
        u64::from((word >> (kind % 2 * 32)) as u32)
    }

    fn state_word(&self) -> (u64, u64) {
        loop {
            let before = self.words[SEQUENCE].load(Acquire);
            let read = (
                self.words[STATE].load(Relaxed),
                self.words[SINCE].load(Relaxed),
            );
            fence(Acquire);
            if before.is_multiple_of(2) && self.words[SEQUENCE].load(Relaxed) == before {
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
            cell.window().count(ms * 1000);
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
