//! The status of a path as readers get it: a snapshot of its status cell (`cell.rs`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::health::{Cause, State, UnknownReason, VerdictKind};
use crate::status::{Latency, PathInfo};

/// Extra time that a verdict may take, after the end of its check, before the path counts as
/// overdue. It covers checks that are due together, the slots of the schedule, and a busy host.
pub const OVERDUE_GRACE: Duration = Duration::from_secs(1);

/// Status of a path at one moment.
#[derive(Clone, Debug)]
pub struct PathStatus {
    /// Which path this is.
    pub path: Arc<PathInfo>,
    /// The state that its verdicts add up to.
    pub state: State,
    /// Why the path is in this state.
    pub cause: Cause,
    /// When the path entered this state, by the wall clock.
    pub since: SystemTime,
    /// When a check last gave information about the device, by the wall clock; `None` if none did
    /// yet. [`VerdictKind::Unknown`] gives none. While a read is stuck, each due check confirms
    /// that it still is.
    pub checked_at: Option<SystemTime>,
    /// Age of that information, by the monotonic clock.
    pub verdict_age: Option<Duration>,
    /// The next verdict is late: the planned time of its check passed longer ago than its timeout
    /// plus [`OVERDUE_GRACE`]. The state is the last known one. This needs no action of the worker,
    /// so it is also true when the worker hangs or is dead. Always false for a paused path.
    pub overdue: bool,
    /// Latencies of its recent answers; `None` if it never answered.
    pub latency_us: Option<Latency>,
    /// Whether reads use `RWF_NOWAIT`; `None` until a read has shown it.
    pub nowait: Option<bool>,
    /// Why the last check gave no information about the device; `None` if it gave some.
    pub unknown: Option<UnknownReason>,
    /// Whether a thread of its own reads this path, because the driver may put the submitting
    /// thread to sleep. Such a thread keeps the process from ending while the driver blocks it.
    pub isolated: bool,
    /// How long ago the deadline of a read passed that is stuck in the kernel; `None` if none is.
    pub stuck: Option<Duration>,
    /// Age of the check that is running; `None` if none is.
    pub in_flight: Option<Duration>,
    /// How long the path has been without a good answer: the time since the first check after the
    /// last good one began; for a path that is down, the time since a read is stuck if that is
    /// longer. `None` if the last check was good.
    pub unanswered: Option<Duration>,
    /// Number of state changes.
    pub transitions: u64,
    /// Number of verdicts, by kind.
    pub checks: Counts,
}

/// Number of verdicts of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub(super) [u64; VerdictKind::ALL.len()]);

impl Counts {
    /// Verdicts of one kind.
    pub fn of(&self, kind: VerdictKind) -> u64 {
        self.0[kind as usize]
    }

    /// All verdicts.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
