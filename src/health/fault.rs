//! Where the fault is, according to the errno of a read or of an open (pure: no clock, no I/O).
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
//! The kernel uses `EIO` when it knows nothing more specific (`BLK_STS_IOERR`). A pulled cable
//! (`DID_NO_CONNECT`) is `EIO`, so `EIO` must not be taken for a medium error.

use pathpulse_kernel_compat::Errno;

/// Where the fault is that an errno reports. The module's table maps errnos to faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The device is gone or was taken offline. Its name may soon belong to a new device.
    DeviceGone,
    /// Something on the way failed, without details: the cable, the adapter or the device.
    Io,
    /// The device can't read its medium, or the data is damaged.
    Medium,
    /// The target failed the command.
    Target,
    /// The connection to the device failed.
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
    /// The name of the cause in tables and in JSON.
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

/// The kernel log's name for a request that failed with this errno, without the word "error".
/// `None` for errnos that the block layer itself does not return (`blk_errors` of
/// block/blk-core.c).
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

/// Whether this errno of open(2) speaks against the connection to the device. All others concern
/// the name, our rights and limits, or a condition of the device that the connection has no part
/// in: an empty drive, a DRBD secondary, an exclusive open by another process.
pub(crate) fn open_blames_device(errno: Errno) -> bool {
    match Fault::from(errno) {
        Fault::DeviceGone => errno != Errno::ENOMEDIUM,
        Fault::Io | Fault::Medium | Fault::Target | Fault::Transport => true,
        Fault::Reservation | Fault::Other => false,
    }
}

/// Whether open(2) with this errno reached the device. Otherwise the name leads nowhere, or this
/// process lacks rights or resources.
pub(crate) fn open_reached_device(errno: Errno) -> bool {
    !matches!(
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
    fn errnos_distinguish_device_medium_and_transport() {
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
    fn only_transport_errors_of_open_count_against_the_device() {
        for errno in Errno::ALL {
            let against = "EIO ENXIO ENODEV ENODATA EILSEQ EREMOTEIO ETIMEDOUT ETIME ENOLINK ECOMM \
                EPROTO ENONET EPIPE EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN ENETRESET \
                ECONNRESET ECONNREFUSED ECONNABORTED ENOTCONN ESHUTDOWN";
            let expected = against.split(' ').any(|name| errno.name() == Some(name));
            assert_eq!(open_blames_device(*errno), expected, "{errno}");
            assert!(!expected || open_reached_device(*errno), "{errno}");
        }
        assert!(!open_blames_device(Errno::from_raw(4000)));
    }

    #[test]
    fn all_errnos_of_the_block_layer_have_the_kernels_name() {
        assert_eq!(kernel_class(Errno::ENODATA), Some("critical medium"));
        assert_eq!(kernel_class(Errno::EIO), Some("I/O"));
        assert_eq!(kernel_class(Errno::ENXIO), None);
        let known = Errno::ALL
            .iter()
            .filter(|errno| kernel_class(**errno).is_some());
        assert_eq!(known.count(), 18);
    }
}
