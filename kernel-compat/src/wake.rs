//! Waking a worker that waits in its backend, from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread that waits in a backend. Cheap to clone; works from any thread, and does no
/// harm after the backend is gone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker over a new eventfd.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when there are no descriptors left, `ENOMEM`.
    pub(crate) fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Arc::new(fd)))
    }

    /// Makes the backend's `wait` return, now or, if nobody waits, the next time.
    pub fn wake(&self) {
        // EAGAIN says that the counter is full: then a wake-up is pending anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Takes all wake-ups that are pending; says whether there was one.
    pub(crate) fn clear(&self) -> bool {
        // EAGAIN says that there was none.
        rustix::io::read(&*self.0, &mut [0u8; 8]).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
