//! The error type for a system call that failed.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::errno::Errno;

/// A system call that failed: which call, its errno, and what the user can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The call, by its name in the manual, such as `io_uring_setup`.
    pub call: Cow<'static, str>,
    /// The errno that it returned.
    pub errno: Errno,
    /// The likely cause and the remedy. Empty if none is known.
    pub hint: Cow<'static, str>,
}

impl KernelError {
    /// An error of `call` without a hint.
    pub fn new(call: &'static str, errno: Errno) -> KernelError {
        KernelError {
            call: Cow::Borrowed(call),
            errno,
            hint: Cow::Borrowed(""),
        }
    }

    /// Returns the same error with a hint.
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
    fn display_names_the_call_the_errno_and_the_hint() {
        let bare = KernelError::new("io_uring_setup", Errno::ENOSYS);
        assert_eq!(
            bare.to_string(),
            "io_uring_setup: ENOSYS: not built into this kernel, or blocked by a seccomp filter"
        );
        let hinted = bare.hint("use the aio backend");
        assert_eq!(
            hinted.to_string(),
            "io_uring_setup: ENOSYS: use the aio backend"
        );
    }
}
