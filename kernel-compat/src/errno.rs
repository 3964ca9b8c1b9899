//! An errno as a positive number.
//!
//! System calls report failure in three ways: -1 and `errno`, a negative return value, or a
//! negative `res` in a completion. This module converts all of them to [`Errno`], which the rest of
//! the project uses.

use std::fmt;
use std::io;

/// A positive errno value with its symbolic name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u16);

impl Errno {
    /// Makes one from a constant of the system's headers.
    pub(crate) const fn known(raw: libc::c_int) -> Errno {
        Errno(raw as u16)
    }

    /// Makes one from a positive errno value. A value outside the range of errnos becomes `EIO`.
    pub fn from_raw(raw: i32) -> Errno {
        u16::try_from(raw)
            .ok()
            .filter(|raw| (1..4096).contains(raw))
            .map_or(Errno::EIO, Errno)
    }

    /// Splits a result in the kernel's convention, such as a completion's `res`: a negative value
    /// is an errno.
    pub fn check(res: i32) -> Result<u32, Errno> {
        u32::try_from(res).map_err(|_| Errno::from_raw(res.saturating_neg()))
    }

    /// The errno of an `io::Error`, or `EIO` if the error did not come from the kernel.
    pub fn of(error: &io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
    }

    /// The positive number.
    pub fn raw(self) -> i32 {
        i32::from(self.0)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno::from_raw(errno.raw_os_error())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The kernel's result of an operation: a number of bytes or an errno.
pub(crate) type KernelResult = Result<u32, Errno>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_results_become_positive_errnos() {
        assert_eq!(Errno::check(512), Ok(512));
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno::check(-libc::EIO), Err(Errno::EIO));
        assert_eq!(Errno::check(i32::MIN), Err(Errno::EIO));
        assert_eq!(
            Errno::of(&io::Error::from_raw_os_error(libc::EAGAIN)),
            Errno::EAGAIN
        );
    }

    #[test]
    fn display_shows_the_name_or_the_number() {
        assert_eq!(Errno::from_raw(libc::EREMOTEIO).to_string(), "EREMOTEIO");
        assert_eq!(Errno::from_raw(4000).to_string(), "errno 4000");
        assert_eq!(Errno::from_raw(-5), Errno::EIO);
    }
}
