//! Descriptors that the parent of this process handed to it.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::{Errno, KernelError};

/// The first number after standard input, output and error.
const FIRST: RawFd = 3;

/// Takes over the descriptor with this number (3 and up) that the parent handed to this process. It
/// is closed on exec from now on. Call it once for each number, at the start of the program.
///
/// # Errors
/// `EBADF` if there is no such descriptor.
pub fn inherited_file(number: RawFd) -> Result<OwnedFd, KernelError> {
    let missing =
        || KernelError::new("fcntl", Errno::EBADF).hint("its parent hands no files to it");
    if number < FIRST {
        return Err(missing());
    }
    // SAFETY: takes no memory; a number that is no descriptor gives an error.
    let set = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if set < 0 {
        return Err(missing());
    }
    // SAFETY: the descriptor is open. Nobody else in this process owns it: the parent opened it for
    // the caller, who takes it once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn only_open_descriptors_after_the_standard_ones_are_taken() {
        assert!(inherited_file(1).is_err());
        assert!(inherited_file(1 << 20).is_err());
        let file = std::fs::File::open("/dev/null").expect("a file");
        let number = file.into_raw_fd();
        let taken = inherited_file(number).expect("open");
        assert_eq!(taken.as_raw_fd(), number);
    }
}
