//! What an errno of a read or of an open says about where the fault is.
//!
//! | errno | kernel's class (`blk_errors` of block/blk-core.c) | fault, cause of a path |
//! |---|---|---|
//! | `EIO` | I/O error | `io_error` |
//! | `ENODATA` | critical medium error | `medium_error` |
//! | `EILSEQ` | protection error | `medium_error` |
//! | `EREMOTEIO` | critical target error | `target_error` |
//! | `ENOLINK` | recoverable transport error | `transport_error` |
//! | `ETIMEDOUT` | timeout error | `transport_error` |
//! | `ETIME` | duration limit exceeded error | `transport_error` |
//! | `ECOMM`, `EPROTO`, `ENONET`, `EPIPE`, `ENOTCONN`, `ESHUTDOWN`, `ENET*`, `ECONN*`, `EHOST*` | none: drivers and file systems with a network below | `transport_error` |
//! | `ENODEV` | device offline error | `device_gone` |
//! | `ENXIO`, `ENOMEDIUM` | none: drivers | `device_gone` |
//! | `EBADE` | reservation conflict error | `reservation_conflict`, which is up (`health/state.rs`) |
//! | all others | perhaps one | `failed` |
//!
//! `EIO` is what the kernel says when it knows nothing better (`BLK_STS_IOERR`): a pulled cable
//! (`DID_NO_CONNECT`) is `EIO`, so it must send nobody to the medium.

use pathpulse_kernel_compat::Errno;

/// Where the fault is that an errno tells of. The module's table says which errno is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The device is gone, or taken offline. Its name may stand for a new one soon.
    DeviceGone,
    /// Something on the way failed, and nobody says what: the cable, the adapter, the device.
    Io,
    /// The device answered that it can't read its medium, or what was read is damaged.
    Medium,
    /// The target failed the command.
    Target,
    /// The way to the device failed.
    Transport,
    /// Another host has reserved the device.
    Reservation,
    /// None of these.
    Other,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        match errno {
            Errno::ENODEV | Errno::ENXIO | Errno::ENOMEDIUM => Fault::DeviceGone,
            Errno::EIO => Fault::Io,
            Errno::ENODATA | Errno::EILSEQ => Fault::Medium,
            Errno::EREMOTEIO => Fault::Target,
            Errno::ETIMEDOUT
            | Errno::ETIME
            | Errno::ENOLINK
            | Errno::ECOMM
            | Errno::EPROTO
            | Errno::ENONET
            | Errno::EPIPE
            | Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENETUNREACH
            | Errno::ENETDOWN
            | Errno::ENETRESET
            | Errno::ECONNRESET
            | Errno::ECONNREFUSED
            | Errno::ECONNABORTED
            | Errno::ENOTCONN
            | Errno::ESHUTDOWN => Fault::Transport,
            Errno::EBADE => Fault::Reservation,
            _ => Fault::Other,
        }
    }
}

impl Fault {
    /// The name of a path's cause in the tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Fault::DeviceGone => "device_gone",
            Fault::Io => "io_error",
            Fault::Medium => "medium_error",
            Fault::Target => "target_error",
            Fault::Transport => "transport_error",
            Fault::Reservation => "reservation_conflict",
            Fault::Other => "failed",
        }
    }
}

/// What the kernel's log calls a request that failed so, without the word "error"; `None` for an
/// errno that the block layer itself does not give (`blk_errors` of block/blk-core.c).
pub(crate) fn kernel_class(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::ETIMEDOUT => "timeout",
        Errno::ENOSPC => "critical space allocation",
        Errno::ENOLINK => "recoverable transport",
        Errno::EREMOTEIO => "critical target",
        Errno::EBADE => "reservation conflict",
        Errno::ENODATA => "critical medium",
        Errno::EILSEQ => "protection",
        Errno::ENOMEM => "kernel resource",
        Errno::EBUSY => "device resource",
        Errno::EAGAIN => "nonblocking retry",
        Errno::ENODEV => "device offline",
        Errno::EREMCHG => "dm internal retry",
        Errno::ETOOMANYREFS => "open zones exceeded",
        Errno::EOVERFLOW => "active zones exceeded",
        Errno::ETIME => "duration limit exceeded",
        Errno::EINVAL => "invalid",
        Errno::EIO => "I/O",
        _ => return None,
    })
}

/// Whether open(2) that fails so speaks of the way to the device. Everything else is about the
/// name, our rights and limits, or a condition of the device that the way to it has no part in: an
/// empty drive, a DRBD secondary, somebody who has it for himself.
pub(crate) fn open_blames_device(errno: Errno) -> bool {
    match Fault::from(errno) {
        Fault::DeviceGone => errno != Errno::ENOMEDIUM,
        Fault::Io | Fault::Medium | Fault::Target | Fault::Transport => true,
        Fault::Reservation | Fault::Other => false,
    }
}

/// Whether open(2) that fails so never came to the device: the name leads nowhere, or we lack
/// the right or the means.
pub(crate) fn open_fell_short(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::EACCES
            | Errno::EPERM
            | Errno::EINVAL
            | Errno::ELOOP
            | Errno::ENAMETOOLONG
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(name: &str) -> Errno {
        Errno::from_name(name).unwrap_or_else(|| panic!("{name} is unknown"))
    }

    #[test]
    fn the_device_its_medium_and_the_way_to_it_are_told_apart() {
        for (cause, names) in [
            ("device_gone", "ENODEV ENXIO ENOMEDIUM"),
            ("io_error", "EIO"),
            ("medium_error", "ENODATA EILSEQ"),
            ("target_error", "EREMOTEIO"),
            (
                "transport_error",
                "ETIMEDOUT ETIME ENOLINK EHOSTUNREACH EHOSTDOWN ENOTCONN ECOMM EPROTO ENETDOWN \
                ENETUNREACH ENETRESET ECONNRESET ECONNABORTED ECONNREFUSED ENONET EPIPE ESHUTDOWN",
            ),
            ("reservation_conflict", "EBADE"),
            (
                "failed",
                "ENOSPC EROFS EUCLEAN EDQUOT EMEDIUMTYPE EHWPOISON",
            ),
        ] {
            for name in names.split(' ') {
                assert_eq!(Fault::from(errno(name)).name(), cause, "{name}");
            }
        }
    }

    #[test]
    fn only_what_speaks_of_the_way_to_the_device_counts_against_it_when_it_is_opened() {
        for errno in Errno::ALL {
            let against = "EIO ENXIO ENODEV ENODATA EILSEQ EREMOTEIO ETIMEDOUT ETIME ENOLINK ECOMM \
                EPROTO ENONET EPIPE EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN ENETRESET \
                ECONNRESET ECONNREFUSED ECONNABORTED ENOTCONN ESHUTDOWN";
            let expected = against.split(' ').any(|name| errno.name() == Some(name));
            assert_eq!(open_blames_device(*errno), expected, "{errno}");
            assert!(!expected || !open_fell_short(*errno), "{errno}");
        }
        assert!(!open_blames_device(Errno::from_raw(4000)));
    }

    #[test]
    fn the_kernels_words_are_known_for_all_that_the_block_layer_gives() {
        assert_eq!(kernel_class(Errno::ENODATA), Some("critical medium"));
        assert_eq!(kernel_class(Errno::EIO), Some("I/O"));
        assert_eq!(kernel_class(Errno::ENXIO), None);
        let known = Errno::ALL
            .iter()
            .filter(|errno| kernel_class(**errno).is_some());
        assert_eq!(known.count(), 18);
    }
}
