//! Waking a worker that waits in its backend, from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread that waits in a backend. Cheap to clone; works from any thread, and does no
/// harm after the backend is gone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Eventfd>);

#[derive(Debug)]
struct Eventfd {
    fd: OwnedFd,
    /// Calls of [`Waker::wake`] so far.
    wakes: AtomicU64,
}

impl Waker {
    /// A waker over a new eventfd.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when there are no descriptors left, `ENOMEM`.
    pub(crate) fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Arc::new(Eventfd {
            fd,
            wakes: AtomicU64::new(0),
        })))
    }

    /// Makes the backend's `wait` return, now or, if nobody waits, the next time.
    pub fn wake(&self) {
        self.0.wakes.fetch_add(1, Ordering::Release);
        self.ring();
    }

    /// How often it was woken: what tells a wake-up from a ring.
    pub(crate) fn wakes(&self) -> u64 {
        self.0.wakes.load(Ordering::Acquire)
    }

    /// Makes whoever waits for the eventfd look, for the backend's own reasons.
    pub(crate) fn ring(&self) {
        // EAGAIN says that the counter is full: then a wake-up is pending anyway.
        let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
    }

    /// Takes all wake-ups that are pending; says whether there was one.
    pub(crate) fn clear(&self) -> bool {
        // EAGAIN says that there was none.
        rustix::io::read(&self.0.fd, &mut [0u8; 8]).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}
