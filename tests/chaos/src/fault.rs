//! The faults and their effects on a reader.

use std::time::Duration;

use crate::limits::Limits;

/// Whether checks of a disk succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// All succeed.
    Good,
    /// None succeeds.
    Bad,
    /// Some may succeed.
    Either,
    /// None succeeds, but the device looks busy: an up path may be kept up, and no path comes up.
    KeptUp,
}

impl CheckOutcome {
    /// Whether a check may succeed.
    pub(crate) fn may_be_good(self) -> bool {
        matches!(self, CheckOutcome::Good | CheckOutcome::Either)
    }
}

/// The fault of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault: it answers at once.
    None,
    /// It holds every read.
    Hang,
    /// It fails every read with an errno, which a loop device shows under this name.
    Fail(i32, &'static str),
    /// It answers late, but in time.
    Slow(Duration),
    /// It answers after the timeout.
    Late(Duration),
    /// It answers at about the timeout.
    Edge(Duration),
    /// Every n-th read fails with EIO.
    Flicker(u64),
    /// Other reads take all its tags, and it answers one read per this time.
    Busy(Duration),
    /// Other reads take all its tags, and it answers none.
    Dead,
    /// Other reads take all its tags, and it fails one read with EIO per this time.
    Failing(Duration),
    /// It answers this many bytes at a time. The loop device requests the rest.
    Short(u32),
    /// It answers with no bytes, which a loop device turns into EIO.
    Empty,
    /// It vanishes.
    Vanish,
}

/// The effects of a fault on a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whether checks succeed.
    pub outcome: CheckOutcome,
    /// How long a good check takes at most.
    pub latency: Duration,
    /// How long after the end of the fault its reads may still be unanswered.
    pub linger: Duration,
    /// Whether reads can get stuck.
    pub can_stick: bool,
}

/// How many other reads a busy disk answers first: the number of a loop device's tags.
const TAGS: u32 = 128;
/// The errno for a reservation by another host, which proves that the path works.
const RESERVED: &str = "EBADE";

impl Fault {
    /// See [`Effect`].
    pub fn effect(self, limits: &Limits) -> Effect {
        let plain = |outcome| Effect {
            outcome,
            latency: Duration::ZERO,
            linger: Duration::ZERO,
            can_stick: false,
        };
        let good = |latency| Effect {
            latency,
            ..plain(CheckOutcome::Good)
        };
        let late = |outcome, linger| Effect {
            linger,
            can_stick: true,
            ..plain(outcome)
        };
        match self {
            Fault::None | Fault::Short(_) => plain(CheckOutcome::Good),
            Fault::Slow(delay) => good(delay),
            // If no tag gets free until the deadline, the progress of the other reads keeps up a
            // path that is up, and brings up none. A read that got its tag too late is stuck for a
            // moment.
            Fault::Busy(pace) => Effect {
                outcome: CheckOutcome::Either,
                can_stick: true,
                linger: pace * TAGS,
                ..good(limits.timeout)
            },
            // A late failure of other reads looks like a late success if the kernel does not
            // distinguish them.
            Fault::Failing(pace) => late(CheckOutcome::KeptUp, pace * TAGS),
            // The reservation of another host: the path works.
            Fault::Fail(_, RESERVED) => plain(CheckOutcome::Good),
            Fault::Hang | Fault::Dead => late(CheckOutcome::Bad, Duration::ZERO),
            Fault::Late(delay) => late(CheckOutcome::Bad, delay),
            Fault::Edge(delay) => late(CheckOutcome::Either, delay),
            Fault::Flicker(_) => plain(CheckOutcome::Either),
            Fault::Fail(..) | Fault::Empty | Fault::Vanish => plain(CheckOutcome::Bad),
        }
    }

    /// Whether a check that failed because of this fault can have this cause and errno.
    pub fn can_cause(self, cause: &str, errno: Option<&str>) -> bool {
        match self {
            Fault::None | Fault::Slow(_) | Fault::Short(_) | Fault::Busy(_) => false,
            Fault::Hang | Fault::Late(_) | Fault::Edge(_) => cause == "timed_out",
            Fault::Dead => cause == "timed_out" || cause == "saturated",
            // A read that gets a tag fails. Without a tag, or with a late one, it gets no answer in
            // time.
            Fault::Failing(_) => {
                Fault::Dead.can_cause(cause, errno) || errno == Some("EIO") && cause == class("EIO")
            }
            Fault::Fail(_, RESERVED) => false,
            Fault::Fail(_, shown) => errno == Some(shown) && cause == class(shown),
            Fault::Flicker(_) | Fault::Empty => errno == Some("EIO") && cause == class("EIO"),
            Fault::Vanish => match errno {
                Some(name) => ["ENODEV", "EIO", "ENXIO"].contains(&name) && cause == class(name),
                None => cause == "offline",
            },
        }
    }

    /// How long after its end the fault can still make a check bad: a running check may have to
    /// time out.
    pub fn aftermath(self, limits: &Limits) -> Duration {
        match self {
            Fault::Late(_) | Fault::Edge(_) => limits.timeout,
            // The old device fails until the new one is found.
            Fault::Vanish => limits.reopen + limits.interval,
            _ => Duration::ZERO,
        }
    }

    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Hang => "hang",
            Fault::Fail(..) => "fail",
            Fault::Slow(_) => "slow",
            Fault::Late(_) => "late",
            Fault::Edge(_) => "edge",
            Fault::Flicker(_) => "flicker",
            Fault::Busy(_) => "busy",
            Fault::Dead => "dead",
            Fault::Failing(_) => "failing",
            Fault::Short(_) => "short",
            Fault::Empty => "empty",
            Fault::Vanish => "vanish",
        }
    }

    /// Whether a load process takes all tags.
    pub fn is_full(self) -> bool {
        matches!(self, Fault::Busy(_) | Fault::Dead | Fault::Failing(_))
    }
}

/// The daemon's cause for an errno.
fn class(errno: &str) -> &'static str {
    match errno {
        "ENODEV" | "ENXIO" => "device_gone",
        "EIO" => "io_error",
        "ENODATA" | "EILSEQ" => "medium_error",
        "EREMOTEIO" => "target_error",
        "ETIMEDOUT" | "ETIME" | "ENOLINK" => "transport_error",
        "EBADE" => "reservation_conflict",
        _ => "failed",
    }
}
