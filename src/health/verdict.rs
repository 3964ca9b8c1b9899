//! The result of one check, and its texts (pure: no clock, no I/O).

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Stage};

use crate::health::{Fault, UnknownReason, kernel_class};

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device answered the read.
    Good {
        /// From submission to completion.
        latency: Duration,
    },
    /// No read got in, or one got in too late to be answered in time. But the device completes
    /// other I/O, so it works.
    Busy,
    /// The device or its transport returned an error.
    Failed {
        /// The error.
        errno: Errno,
    },
    /// The device answered with less than one block.
    ShortRead {
        /// Number of bytes returned.
        got: u32,
    },
    /// The deadline passed without an answer.
    TimedOut {
        /// Where the read was at the deadline.
        stage: Stage,
    },
    /// No read got in, and the device completes nothing.
    Saturated(Backpressure),
    /// sysfs reports that the device is offline or dead. No read was made.
    Offline,
    /// sysfs reports that the target serves no reads on this path by design (ALUA, ANA). No read
    /// was made.
    Standby,
    /// Our own side failed. This says nothing about the device and never changes a state.
    Unknown {
        /// What failed.
        why: UnknownReason,
    },
}

/// Why a device that completes nothing admits no reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// All its tags are taken, or the kernel dispatches nothing to it, and no request completes.
    NoProgress,
    /// It, or a device below it, is suspended by device-mapper (dmsetup(8), or a table being
    /// loaded).
    Suspended,
}

impl Verdict {
    /// The kind, without the details.
    pub fn kind(&self) -> VerdictKind {
        match self {
            Verdict::Good { .. } => VerdictKind::Good,
            Verdict::Busy => VerdictKind::Busy,
            Verdict::Failed { .. } => VerdictKind::Failed,
            Verdict::ShortRead { .. } => VerdictKind::ShortRead,
            Verdict::TimedOut { .. } => VerdictKind::TimedOut,
            Verdict::Saturated(_) => VerdictKind::Saturated,
            Verdict::Offline => VerdictKind::Offline,
            Verdict::Standby => VerdictKind::Standby,
            Verdict::Unknown { .. } => VerdictKind::Unknown,
        }
    }

    /// Whether it is the result of a read that the kernel accepted with its flags, `RWF_NOWAIT`
    /// included.
    pub(crate) fn comes_from_read(&self) -> bool {
        match self {
            Verdict::Offline | Verdict::Standby => false,
            Verdict::Unknown { why } => matches!(why, UnknownReason::WouldBlock),
            _ => true,
        }
    }

    /// Whether it counts against the path.
    pub(crate) fn is_bad(&self) -> bool {
        match self {
            Verdict::Good { .. } | Verdict::Busy | Verdict::Standby | Verdict::Unknown { .. } => {
                false
            }
            // Another host reserved the storage; the path works.
            Verdict::Failed {
                errno: Errno::EBADE,
            } => false,
            Verdict::Failed { .. }
            | Verdict::ShortRead { .. }
            | Verdict::TimedOut { .. }
            | Verdict::Saturated(_)
            | Verdict::Offline => true,
        }
    }

    /// Whether the opened device may be gone and its name may belong to a new one. A block device
    /// without its disk has no size any more and answers with 0 bytes.
    pub(crate) fn may_mean_gone(&self) -> bool {
        match self {
            Verdict::Failed { errno } => Fault::from(*errno) == Fault::DeviceGone,
            Verdict::ShortRead { got } => *got == 0,
            Verdict::Offline => true,
            // Its block size may have changed.
            Verdict::Unknown { why } => *why == UnknownReason::Refused(Errno::EINVAL),
            _ => false,
        }
    }

    /// Why it says nothing about the device; `None` if it does.
    pub(crate) fn unknown_reason(&self) -> Option<UnknownReason> {
        match self {
            Verdict::Unknown { why } => Some(*why),
            _ => None,
        }
    }

    /// Advice for an administrator, if the errno has one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Verdict::Failed { errno } => errno.hint(),
            _ => None,
        }
    }

    /// The errno of the verdict.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Verdict::Failed { errno }
            | Verdict::Unknown {
                why: UnknownReason::Refused(errno),
            } => Some(*errno),
            _ => None,
        }
    }
}

/// A [`Verdict`] without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is the variant of `Verdict` of the same name
pub enum VerdictKind {
    Good,
    Busy,
    Failed,
    ShortRead,
    TimedOut,
    Saturated,
    Offline,
    Standby,
    Unknown,
}

impl VerdictKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [VerdictKind; 9] = [
        VerdictKind::Good,
        VerdictKind::Busy,
        VerdictKind::Failed,
        VerdictKind::ShortRead,
        VerdictKind::TimedOut,
        VerdictKind::Saturated,
        VerdictKind::Offline,
        VerdictKind::Standby,
        VerdictKind::Unknown,
    ];

    /// The name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            VerdictKind::Good => "good",
            VerdictKind::Busy => "busy",
            VerdictKind::Failed => "failed",
            VerdictKind::ShortRead => "short_read",
            VerdictKind::TimedOut => "timed_out",
            VerdictKind::Saturated => "saturated",
            VerdictKind::Offline => "offline",
            VerdictKind::Standby => "standby",
            VerdictKind::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Good { latency } => write!(f, "answered in {} us", latency.as_micros()),
            Verdict::Busy => f.write_str("all tags taken, and other I/O completes"),
            Verdict::Failed { errno } => match kernel_class(*errno) {
                Some(class) => write!(f, "{errno}: {class} error: {}", errno.meaning()),
                None => write!(f, "{errno}: {}", errno.meaning()),
            },
            Verdict::ShortRead { got } => write!(f, "short read: {got} bytes"),
            Verdict::TimedOut {
                stage: Stage::Device,
            } => f.write_str("no answer from the device"),
            Verdict::TimedOut {
                stage: Stage::Submission,
            } => f.write_str("the kernel could not hand the read to the device"),
            Verdict::Saturated(Backpressure::NoProgress) => {
                f.write_str("all tags taken, and nothing completes")
            }
            Verdict::Saturated(Backpressure::Suspended) => {
                f.write_str("suspended by device-mapper: no read gets in")
            }
            Verdict::Offline => f.write_str("the kernel reports the device as offline"),
            Verdict::Standby => f.write_str("the target reports this path as standby"),
            Verdict::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}
