//! Closes files in threads, and tells the owner when a file is closed.
//!
//! The last close of a device runs code of its driver and writes back its page cache. It may take
//! as long as the device does not answer. So threads close files, and a [`Closing`] tells when that
//! has happened. Until then the device is in use: it can't be unmounted, reset or opened
//! exclusively.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use crate::Mono;

/// Tells when a file that was given up is closed.
#[derive(Debug)]
pub struct Closing(Option<Receiver<()>>);

impl Closing {
    /// For no file: there is nothing to wait for.
    pub fn nothing() -> Closing {
        Closing(None)
    }

    /// Makes a pair. Dropping the [`Closed`] completes the [`Closing`].
    pub fn pair() -> (Closed, Closing) {
        let (closed, closing) = channel();
        (Closed(closed), Closing(Some(closing)))
    }

    /// Waits until the file is closed, but not beyond `deadline`. Returns whether it is closed.
    pub fn wait(&self, deadline: Mono) -> bool {
        let Some(closed) = &self.0 else {
            return true;
        };
        let left = deadline.since(Mono::now());
        closed.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Dropped when a file is closed.
#[derive(Debug)]
pub struct Closed(#[expect(dead_code, reason = "only its drop matters")] Sender<()>);

/// A file with several owners. When the last owner drops it, the file is closed and its [`Closing`]
/// completes.
#[derive(Debug)]
pub(crate) struct SharedFile {
    // The file must be dropped before `closed`.
    file: OwnedFd,
    closed: OnceLock<Closed>,
}

impl SharedFile {
    pub(crate) fn new(file: OwnedFd) -> SharedFile {
        SharedFile {
            file,
            closed: OnceLock::new(),
        }
    }

    /// Starts closing: the owners drop the file when they can. Call it only once.
    pub(crate) fn closing(&self) -> Closing {
        let (closed, closing) = Closing::pair();
        let first = self.closed.set(closed).is_ok();
        debug_assert!(first, "closing was called twice");
        closing
    }

    /// Whether the owners drop the file as soon as they can.
    pub(crate) fn is_closing(&self) -> bool {
        self.closed.get().is_some()
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn closing_completes_when_the_last_owner_drops_the_file() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        let shared = Arc::new(SharedFile::new(file.into()));
        let other = Arc::clone(&shared);
        let closing = shared.closing();
        drop(shared);
        assert!(!closing.wait(Mono::ZERO));
        drop(other);
        assert!(closing.wait(Mono::ZERO) && closing.wait(Mono::ZERO));
        assert!(Closing::nothing().wait(Mono::ZERO));
    }
}
