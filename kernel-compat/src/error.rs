//! The one place where an errno becomes an error.
//!
//! System calls report failure in three ways: -1 and `errno`, a negative return value, and a
//! negative `res` in a completion. Elsewhere in the project an errno is an [`Errno`], always
//! positive, whichever way it came.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// A positive errno value with its symbolic name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident = $meaning:literal,)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`: ", $meaning, ".")]
            pub const $name: Errno = Errno(libc::$name as u16);)*

            /// The symbolic name, as in errno(3); `None` for one that storage and the ring's
            /// calls do not give.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What the kernel means by it, in a few words.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Errno::$name => $meaning,)*
                    _ => "an error of the kernel",
                }
            }

            /// The errno with this symbolic name (`"EIO"`), if it is one of the known.
            pub fn from_name(name: &str) -> Option<Errno> {
                match name {
                    $(stringify!($name) => Some(Errno::$name),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = "not permitted",
    ENOENT = "no such file or device",
    EINTR = "interrupted",
    EIO = "input/output error",
    ENXIO = "no such device or address",
    EBADF = "bad file descriptor",
    EAGAIN = "would block, or no room",
    ENOMEM = "out of memory",
    EACCES = "access denied",
    EFAULT = "bad address",
    EBUSY = "busy",
    EEXIST = "exists already",
    ENODEV = "the device is gone",
    ENOTDIR = "a part of the path is not a folder",
    EISDIR = "is a folder",
    EINVAL = "invalid argument",
    ENFILE = "the system has no file slots left",
    EMFILE = "the process has no file descriptors left",
    ENOTTY = "the device does not know this request",
    ENOSPC = "no space left",
    ESPIPE = "cannot seek",
    EROFS = "read-only",
    ERANGE = "out of range",
    ENAMETOOLONG = "name too long",
    ENOSYS = "not built into this kernel, or filtered",
    ELOOP = "too many symbolic links",
    ENODATA = "no data: medium error",
    ETIME = "timer expired",
    ENOLINK = "the link to the target is gone",
    ECOMM = "communication error",
    EPROTO = "protocol error",
    EBADE = "reservation conflict",
    EOVERFLOW = "value too large",
    EILSEQ = "integrity error: checksum or protection information does not match",
    EOPNOTSUPP = "not supported",
    EADDRNOTAVAIL = "address not available",
    ENETDOWN = "network down",
    ENETUNREACH = "network unreachable",
    ECONNABORTED = "connection aborted",
    ECONNRESET = "connection reset",
    ENOTCONN = "not connected",
    ETIMEDOUT = "the transport timed out",
    ECONNREFUSED = "connection refused",
    EHOSTDOWN = "host down",
    EHOSTUNREACH = "host unreachable",
    EALREADY = "already in progress",
    ESTALE = "stale handle",
    EREMOTEIO = "remote input/output error: the target failed the command",
    ENOMEDIUM = "no medium",
    ECANCELED = "cancelled",
}

impl Errno {
    /// From a positive errno value; what does not fit an errno becomes `EIO`.
    pub fn from_raw(raw: i32) -> Errno {
        u16::try_from(raw)
            .ok()
            .filter(|raw| (1..4096).contains(raw))
            .map_or(Errno::EIO, Errno)
    }

    /// Splits a result in the kernel's convention (negative is an errno) as a completion's `res`
    /// has it.
    pub fn check(res: i32) -> Result<u32, Errno> {
        u32::try_from(res).map_err(|_| Errno::from_raw(res.saturating_neg()))
    }

    /// The errno within an `io::Error`; `EIO` for errors that did not come from the kernel.
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

/// A system call that failed: which, how, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The call, by its name in the manual, such as `io_uring_setup`.
    pub call: &'static str,
    /// What it answered.
    pub errno: Errno,
    /// The likely cause and its cure; empty where none is known.
    pub hint: Cow<'static, str>,
}

impl KernelError {
    /// An error of `call` without a hint.
    pub fn new(call: &'static str, errno: Errno) -> KernelError {
        KernelError {
            call,
            errno,
            hint: Cow::Borrowed(""),
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> KernelError {
        self.hint = hint.into();
        self
    }

    /// For `map_err`: turns an `io::Error` of `call` into an error without a hint.
    pub fn of(call: &'static str) -> impl Fn(io::Error) -> KernelError {
        move |error| KernelError::new(call, Errno::of(&error))
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno)?;
        if self.hint.is_empty() {
            write!(f, ": {}", self.errno.meaning())
        } else {
            write!(f, ": {}", self.hint)
        }
    }
}

impl std::error::Error for KernelError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_flipped_once_and_only_here() {
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
    fn every_name_leads_back_to_its_number() {
        for raw in 1..200 {
            let errno = Errno::from_raw(raw);
            if let Some(name) = errno.name() {
                assert_eq!(Errno::from_name(name), Some(errno));
            }
        }
        assert_eq!(Errno::from_raw(libc::EREMOTEIO).to_string(), "EREMOTEIO");
        assert_eq!(Errno::from_raw(4000).to_string(), "errno 4000");
        assert_eq!(Errno::from_raw(-5), Errno::EIO);
    }

    #[test]
    fn an_error_says_what_happened_and_what_to_do() {
        let bare = KernelError::new("io_uring_setup", Errno::ENOSYS);
        assert_eq!(
            bare.to_string(),
            "io_uring_setup: ENOSYS: not built into this kernel, or filtered"
        );
        let hinted = bare.hint("use the aio backend");
        assert_eq!(
            hinted.to_string(),
            "io_uring_setup: ENOSYS: use the aio backend"
        );
    }
}
