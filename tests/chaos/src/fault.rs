//! The faults, and what each lets a reader see.

use std::time::Duration;

use crate::terms::Terms;

/// Whether checks of a disk succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// All do.
    Good,
    /// None does.
    Bad,
    /// Some may.
    Either,
    /// None does, but the device looks busy: what is up may be kept up, and nothing comes up.
    Kept,
}

impl Answers {
    /// Whether a check may succeed.
    pub(crate) fn may_be_good(self) -> bool {
        matches!(self, Answers::Good | Answers::Either)
    }
}

/// What is done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it answers at once.
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
    /// Every so many reads one fails with EIO.
    Flicker(u64),
    /// Others take all of its tags, and it answers one read in this time.
    Busy(Duration),
    /// Others take all of its tags, and it answers nobody.
    Dead,
    /// Others take all of its tags, and it fails one read with EIO in this time.
    Failing(Duration),
    /// It answers so many bytes at a time. The loop device asks for the rest.
    Short(u32),
    /// It answers with nothing, which a loop device makes EIO.
    Empty,
    /// It is pulled.
    Vanish,
}

/// What a fault lets a reader see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whether checks succeed.
    pub answers: Answers,
    /// How long a good check takes at most.
    pub latency: Duration,
    /// For how long after the fault's end its reads may still be without an answer.
    pub linger: Duration,
    /// Whether reads can get stuck.
    pub sticks: bool,
}

/// Reads of others that a busy disk answers before ours: all of a loop device's tags.
const TAGS: u32 = 128;
/// Says that another host has reserved the storage, which proves that the path works.
const RESERVED: &str = "EBADE";

impl Fault {
    /// See [`Effect`].
    pub fn effect(self, terms: &Terms) -> Effect {
        let plain = |answers| Effect {
            answers,
            latency: Duration::ZERO,
            linger: Duration::ZERO,
            sticks: false,
        };
        let good = |latency| Effect {
            latency,
            ..plain(Answers::Good)
        };
        let late = |answers, linger| Effect {
            linger,
            sticks: true,
            ..plain(answers)
        };
        match self {
            Fault::None | Fault::Short(_) => plain(Answers::Good),
            Fault::Slow(delay) => good(delay),
            // If no tag is free until the deadline, that others' reads are answered keeps up what is up,
            // and brings nothing up. A read that got in too late to be answered before is stuck for a
            // moment.
            Fault::Busy(pace) => Effect {
                answers: Answers::Either,
                sticks: true,
                linger: pace * TAGS,
                ..good(terms.timeout)
            },
            // What others are refused late looks as what they are given late, where the kernel does not tell
            // these apart.
            Fault::Failing(pace) => late(Answers::Kept, pace * TAGS),
            // Another host's reservation: the path works.
            Fault::Fail(_, RESERVED) => plain(Answers::Good),
            Fault::Hang | Fault::Dead => late(Answers::Bad, Duration::ZERO),
            Fault::Late(delay) => late(Answers::Bad, delay),
            Fault::Edge(delay) => late(Answers::Either, delay),
            Fault::Flicker(_) => plain(Answers::Either),
            Fault::Fail(..) | Fault::Empty | Fault::Vanish => plain(Answers::Bad),
        }
    }

    /// Whether a check that this fault spoiled can have this cause, and errno.
    pub fn can_cause(self, cause: &str, errno: Option<&str>) -> bool {
        match self {
            Fault::None | Fault::Slow(_) | Fault::Short(_) | Fault::Busy(_) => false,
            Fault::Hang | Fault::Late(_) | Fault::Edge(_) => cause == "timed_out",
            Fault::Dead => cause == "timed_out" || cause == "saturated",
            // A read that gets in fails; one that gets in late, or does not, has no answer in time.
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

    /// For how long after the fault's end it can still spoil a check: what is under way then may
    /// have to time out.
    pub fn aftermath(self, terms: &Terms) -> Duration {
        match self {
            Fault::Late(_) | Fault::Edge(_) => terms.timeout,
            // The old device goes on to fail until the new one is found.
            Fault::Vanish => terms.reopen + terms.interval,
            _ => Duration::ZERO,
        }
    }

    /// The name in the figures.
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

    /// Whether a load of its own takes all tags.
    pub fn is_full(self) -> bool {
        matches!(self, Fault::Busy(_) | Fault::Dead | Fault::Failing(_))
    }
}

/// What an errno says about where the fault is, in the daemon's words.
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
