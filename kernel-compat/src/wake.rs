//! Wakes a worker that waits in its backend, from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread that waits in a backend. Cheap to clone and usable from any thread. It has no
/// effect after the backend was dropped.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Eventfd>);

#[derive(Debug)]
struct Eventfd {
    fd: OwnedFd,
    /// Number of calls of [`Waker::wake`] so far.
    wakes: AtomicU64,
}

impl Waker {
    /// A waker over a new eventfd.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when no descriptors are left, or `ENOMEM`.
    pub fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Arc::new(Eventfd {
            fd,
            wakes: AtomicU64::new(0),
        })))
    }

    /// Makes the backend's `wait` return: the current call, or the next one if no call is running.
    pub fn wake(&self) {
        self.0.wakes.fetch_add(1, Ordering::Release);
        self.notify();
    }

    /// How many times [`Waker::wake`] was called. This distinguishes a wake-up from a `notify`.
    pub(crate) fn wakes(&self) -> u64 {
        self.0.wakes.load(Ordering::Acquire)
    }

    /// Makes the eventfd readable without counting as a wake-up, for the backend's own events.
    pub(crate) fn notify(&self) {
        // EAGAIN means that the counter is full. Then a wake-up is pending anyway.
        let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
    }

    /// Consumes all pending wake-ups. Returns whether there was one.
    pub fn clear(&self) -> bool {
        // EAGAIN means that there was none.
        rustix::io::read(&self.0.fd, &mut [0u8; 8]).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}
