//! Why a check gave no information about the device.

use pathpulse_kernel_compat::Errno;

/// What failed on our own side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// The submission queue had no room until the deadline.
    NoSlot,
    /// There was no memory for a buffer, here or in the kernel.
    NoMemory,
    /// All kernel threads for blocking reads were taken until the deadline.
    NotStarted,
    /// Every read would have waited although the device was idle. Dirty pages can cause this.
    WouldBlock,
    /// A limit of this process's cgroup holds the read above the device (`io.max`).
    Throttled,
    /// The check was cancelled, because the path was removed or everything stops.
    Cancelled,
    /// This process did not run when the check should have ended: suspended, stopped or starved.
    Stalled,
    /// The kernel rejected the read request itself.
    Refused(Errno),
    /// The backend no longer works.
    Broken,
    /// The disk is suspended, and is configured to be left alone
    /// ([`Sleeping::Leave`](crate::Sleeping::Leave)).
    Asleep,
    /// The path was paused, or its backend broke, and it could not be opened again yet.
    NotOpen,
}

impl UnknownReason {
    const WITHOUT_ERRNO: [UnknownReason; 10] = [
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

    /// Codes from here on carry an errno, which is below 4,096.
    const REFUSED_BASE: u16 = 1 << 12;

    /// A number for this reason; never 0.
    pub(crate) fn code(self) -> u16 {
        let place = UnknownReason::WITHOUT_ERRNO
            .iter()
            .position(|plain| *plain == self);
        match self {
            UnknownReason::Refused(errno) => UnknownReason::REFUSED_BASE + errno.raw() as u16,
            _ => 1 + place.unwrap_or_default() as u16,
        }
    }

    /// The reason with this number; `None` for 0.
    pub(crate) fn from_code(code: u16) -> Option<UnknownReason> {
        match code.checked_sub(UnknownReason::REFUSED_BASE) {
            Some(errno) => Some(UnknownReason::Refused(Errno::from_raw(i32::from(errno)))),
            None => UnknownReason::WITHOUT_ERRNO
                .get(usize::from(code).checked_sub(1)?)
                .copied(),
        }
    }
}

impl std::fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnknownReason::NoSlot => f.write_str("no free slot in the submission queue"),
            UnknownReason::NoMemory => f.write_str("no memory for the read"),
            UnknownReason::NotStarted => {
                f.write_str("all kernel threads for blocking reads are taken")
            }
            UnknownReason::WouldBlock => {
                f.write_str("the read would block although the device is idle")
            }
            UnknownReason::Throttled => {
                f.write_str("an I/O limit of this process's cgroup (io.max) holds the read back")
            }
            UnknownReason::Cancelled => f.write_str("the check was cancelled"),
            UnknownReason::Stalled => f.write_str("this process did not run for a while"),
            UnknownReason::Refused(errno) => {
                write!(
                    f,
                    "the kernel refused the read: {errno}: {}",
                    errno.meaning()
                )
            }
            UnknownReason::Broken => f.write_str("the backend no longer works"),
            UnknownReason::Asleep => {
                f.write_str("the disk is suspended and is not woken (sleeping = \"leave\")")
            }
            UnknownReason::NotOpen => f.write_str("the device is not open; the log has the reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_code() {
        let all = UnknownReason::WITHOUT_ERRNO
            .into_iter()
            .chain([UnknownReason::Refused(Errno::EINVAL)]);
        for why in all {
            assert_eq!(UnknownReason::from_code(why.code()), Some(why));
        }
        assert_eq!(UnknownReason::from_code(0), None);
        assert_eq!(UnknownReason::from_code(99), None);
    }
}
