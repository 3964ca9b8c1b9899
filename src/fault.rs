//! What an errno of a read says about where the fault is.

use pathpulse_kernel_compat::Errno;

/// Where the fault is that an errno tells of: what the kernel makes of a device's answer (`blk_errors`
/// of block/blk-core.c, `blk_status_t` of drivers) and what drivers say themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The device is gone, or taken offline: `ENODEV`, `ENXIO`, `ENOMEDIUM`. Its name may stand for a
    /// new one soon.
    DeviceGone,
    /// The device answered that it can't read its medium: `EIO`, `ENODATA`, `EILSEQ`, `EREMOTEIO`. `EIO`
    /// is also what drivers say who don't know better.
    Medium,
    /// The way to the device failed: `ETIMEDOUT`, `ENOLINK`, `EHOSTUNREACH` and their kin.
    Transport,
    /// Another host has reserved the device: `EBADE`.
    Reservation,
    /// None of these.
    Other,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        match errno {
            Errno::ENODEV | Errno::ENXIO | Errno::ENOMEDIUM => Fault::DeviceGone,
            Errno::EIO | Errno::ENODATA | Errno::EILSEQ | Errno::EREMOTEIO => Fault::Medium,
            Errno::ETIMEDOUT
            | Errno::ETIME
            | Errno::ENOLINK
            | Errno::ECOMM
            | Errno::EPROTO
            | Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENETUNREACH
            | Errno::ENETDOWN
            | Errno::ECONNRESET
            | Errno::ECONNREFUSED
            | Errno::ECONNABORTED
            | Errno::ENOTCONN => Fault::Transport,
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
            Fault::Medium => "medium_error",
            Fault::Transport => "transport_error",
            Fault::Reservation => "reservation_conflict",
            Fault::Other => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_its_medium_and_the_way_to_it_are_told_apart() {
        let names = |errnos: &[&str]| {
            let faults = errnos.iter().map(|name| {
                let errno = Errno::from_name(name).expect("known");
                Fault::from(errno).name()
            });
            faults.collect::<Vec<_>>()
        };
        assert_eq!(names(&["ENODEV", "ENXIO"]), ["device_gone"; 2]);
        assert_eq!(
            names(&["EIO", "ENODATA", "EILSEQ", "EREMOTEIO"]),
            ["medium_error"; 4]
        );
        assert_eq!(
            names(&["ETIMEDOUT", "ENOLINK", "EHOSTUNREACH"]),
            ["transport_error"; 3]
        );
        assert_eq!(names(&["EBADE"]), ["reservation_conflict"]);
        assert_eq!(names(&["ENOSPC", "EROFS"]), ["failed"; 2]);
    }
}
