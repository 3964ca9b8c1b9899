//! Files that are given up, and how their owner learns that they are closed.
//!
//! The last close of a device runs its driver's code, and writes back what the page cache has: it may
//! take as long as the device likes. So threads close files, and a [`Closing`] tells when that has
//! happened. Until then the device is in use: it can't be unmounted, reset or taken exclusively.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use crate::Mono;
use crate::errno::KernelResult;
use crate::threads::pool::Call;

/// Tells when a file that was given up is closed.
#[derive(Debug)]
pub struct Closing(Option<Receiver<()>>);

impl Closing {
    /// Of no file: there is nothing to wait for.
    pub fn nothing() -> Closing {
        Closing(None)
    }

    /// A file's end, and the one who is told of it when the other is dropped.
    pub(crate) fn new() -> (Closed, Closing) {
        let (closed, closing) = channel();
        (Closed(closed), Closing(Some(closing)))
    }

    /// Waits until the file is closed, at the longest until `deadline`; says whether it is.
    pub fn wait(&self, deadline: Mono) -> bool {
        let Some(closed) = &self.0 else {
            return true;
        };
        let left = deadline.since(Mono::now());
        closed.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Is dropped once a file is closed.
#[derive(Debug)]
pub(crate) struct Closed(#[expect(dead_code, reason = "its end is what counts")] Sender<()>);

/// A file that several own. When the last of them drops it, it is closed, and then its [`Closing`] says so.
#[derive(Debug)]
pub(crate) struct SharedFile {
    // Dropped in this order.
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

    /// The file is given up; its owners drop it when they can. To be called once.
    pub(crate) fn closing(&self) -> Closing {
        let (closed, closing) = Closing::new();
        let first = self.closed.set(closed).is_ok();
        debug_assert!(first, "given up twice");
        closing
    }

    /// Whether its owners drop it as soon as they can.
    pub(crate) fn is_given_up(&self) -> bool {
        self.closed.get().is_some()
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// For threads that make no reads.
pub(crate) enum NoCall {}

impl Call for NoCall {
    fn run(self) -> Option<KernelResult> {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn it_is_told_when_the_last_owner_has_let_go() {
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
