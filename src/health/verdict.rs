//! What one check showed, and how it is said.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Stage};

use crate::health::{Fault, kernel_class};

/// What one check showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device answered the read, this long after it was submitted.
    Good {
        /// From submission to completion.
        latency: Duration,
    },
    /// The read never got in, or so late that its answer did not come in time, but the device
    /// completes other I/O: it works.
    Busy,
    /// The device or its transport answered with an error.
    Failed {
        /// The error.
        errno: Errno,
    },
    /// The device answered with less than one block.
    ShortRead {
        /// Bytes it gave.
        got: u32,
    },
    /// The deadline passed without an answer.
    TimedOut {
        /// Where the read was then.
        stage: Stage,
    },
    /// The read never got in, and the device completes nothing.
    Saturated(Backpressure),
    /// sysfs says that the device is offline or dead; no read was made.
    Offline,
    /// sysfs says that the target serves no reads on this path by design (ALUA, ANA); no read was
    /// made.
    Standby,
    /// Our own side failed. Says nothing about the device and never changes a state.
    Unknown {
        /// What failed.
        why: UnknownReason,
    },
}

/// What keeps reads out of a device that completes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// All its tags are taken, or the kernel hands it nothing, and no request ends.
    NoProgress,
    /// It, or a device below it, is suspended by device-mapper (dmsetup(8), a table that is loaded).
    Suspended,
}

/// What failed on our own side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// The queue to the kernel had no room until the deadline.
    NoSlot,
    /// There was no memory for a buffer, here or in the kernel.
    NoMemory,
    /// All kernel threads for blocking reads were taken until the deadline.
    NotStarted,
    /// Every read would have had to wait although the device was idle; dirty pages do that.
    WouldBlock,
    /// A limit of this process's cgroup holds the read above the device (`io.max`).
    Throttled,
    /// The check was given up, because the path was removed or everything stops.
    Cancelled,
    /// This program did not run while the check should have ended: suspended, stopped or starved.
    Stalled,
    /// The kernel did not accept the read as we made it.
    Refused(Errno),
    /// The way to the kernel is broken.
    Broken,
    /// The disk sleeps, and is to be left alone ([`Sleeping::Leave`](crate::Sleeping::Leave)).
    Asleep,
    /// It was paused, or its backend broke, and it could not be opened again yet.
    NotOpen,
}

impl UnknownReason {
    const PLAIN: [UnknownReason; 10] = [
        UnknownReason::NoSlot,
        UnknownReason::NoMemory,
        UnknownReason::NotStarted,
        UnknownReason::WouldBlock,
        UnknownReason::Throttled,
        UnknownReason::Cancelled,
        UnknownReason::Stalled,
        UnknownReason::Broken,
        UnknownReason::Asleep,
        UnknownReason::NotOpen,
    ];

    /// The number of the first errno: they are less than 4,096.
    const REFUSED: u16 = 1 << 12;

    /// As a number that is not 0.
    pub(crate) fn code(self) -> u16 {
        let place = UnknownReason::PLAIN.iter().position(|plain| *plain == self);
        match self {
            UnknownReason::Refused(errno) => UnknownReason::REFUSED + errno.raw() as u16,
            _ => 1 + place.unwrap_or_default() as u16,
        }
    }

    /// The one of this number; `None` for 0.
    pub(crate) fn from_code(code: u16) -> Option<UnknownReason> {
        match code.checked_sub(UnknownReason::REFUSED) {
            Some(errno) => Some(UnknownReason::Refused(Errno::from_raw(i32::from(errno)))),
            None => UnknownReason::PLAIN
                .get(usize::from(code).checked_sub(1)?)
                .copied(),
        }
    }
}

impl Verdict {
    /// Which one it is, without its particulars.
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

    /// Whether it comes from a read that the kernel took as it was made, `RWF_NOWAIT` included.
    pub(crate) fn is_of_read(&self) -> bool {
        match self {
            Verdict::Offline | Verdict::Standby => false,
            Verdict::Unknown { why } => matches!(why, UnknownReason::WouldBlock),
            _ => true,
        }
    }

    /// Whether it speaks against the path.
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

    /// Whether the device that was opened may be there no longer, and a new one have its name. A block device
    /// that lost its disk has no size any more: it answers, with nothing.
    pub(crate) fn says_gone(&self) -> bool {
        match self {
            Verdict::Failed { errno } => Fault::from(*errno) == Fault::DeviceGone,
            Verdict::ShortRead { got } => *got == 0,
            Verdict::Offline => true,
            // Perhaps its blocks have another size now.
            Verdict::Unknown { why } => *why == UnknownReason::Refused(Errno::EINVAL),
            _ => false,
        }
    }

    /// Why it says nothing about the device, if it doesn't.
    pub(crate) fn unknown_reason(&self) -> Option<UnknownReason> {
        match self {
            Verdict::Unknown { why } => Some(*why),
            _ => None,
        }
    }

    /// What a person can do about it, if its errno tells.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Verdict::Failed { errno } => errno.hint(),
            _ => None,
        }
    }

    /// The errno that it carries.
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

/// A [`Verdict`] without its particulars.
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
    /// All kinds; each one's place is its number.
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

    /// The name in the tables and in JSON.
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
            Verdict::ShortRead { got } => write!(f, "answered with {got} bytes only"),
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
            Verdict::Offline => f.write_str("offline, says the kernel"),
            Verdict::Standby => f.write_str("standby, says the target"),
            Verdict::Unknown { why } => write!(f, "not known: {why}"),
        }
    }
}

impl std::fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnknownReason::NoSlot => f.write_str("no room in the queue to the kernel"),
            UnknownReason::NoMemory => f.write_str("no memory for the read"),
            UnknownReason::NotStarted => {
                f.write_str("all kernel threads for blocking reads are taken")
            }
            UnknownReason::WouldBlock => {
                f.write_str("the read would wait although the device is idle")
            }
            UnknownReason::Throttled => {
                f.write_str("an I/O limit of this process's cgroup (io.max) holds the read back")
            }
            UnknownReason::Cancelled => f.write_str("given up"),
            UnknownReason::Stalled => f.write_str("this program did not run for a while"),
            UnknownReason::Refused(errno) => {
                write!(
                    f,
                    "the kernel refused the read: {errno}: {}",
                    errno.meaning()
                )
            }
            UnknownReason::Broken => f.write_str("the way to the kernel is broken"),
            UnknownReason::Asleep => {
                f.write_str("its disk sleeps, and is left alone (sleeping = \"leave\")")
            }
            UnknownReason::NotOpen => f.write_str("it is not open; the log says why"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_number() {
        let all = UnknownReason::PLAIN
            .into_iter()
            .chain([UnknownReason::Refused(Errno::EINVAL)]);
        for why in all {
            assert_eq!(UnknownReason::from_code(why.code()), Some(why));
        }
        assert_eq!(UnknownReason::from_code(0), None);
        assert_eq!(UnknownReason::from_code(99), None);
    }
}
