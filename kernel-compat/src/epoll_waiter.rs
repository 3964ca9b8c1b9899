//! Waits for completions and wake-ups, for backends whose kernel interface can't wait for both.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::{Errno, KernelError, Mono, Waker};

/// epoll_wait(2) takes its timeout as an int of milliseconds.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const DONE: u64 = 0;
const WAKER: u64 = 1;

/// An epoll instance over two eventfds: one for completions, and the waker.
pub(crate) struct EpollWaiter {
    epoll: OwnedFd,
    done: Waker,
    waker: Waker,
    events: Vec<epoll::Event>,
}

/// Why a wait returned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wakeup {
    /// Something has completed since the last wait.
    pub(crate) done: bool,
    /// A user woke the backend.
    pub(crate) woken: bool,
}

impl EpollWaiter {
    /// # Errors
    /// `eventfd` or `epoll_create1`, when no descriptors or no memory are left.
    pub(crate) fn new() -> Result<EpollWaiter, KernelError> {
        let failed = |call| move |errno: rustix::io::Errno| KernelError::new(call, errno.into());
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("epoll_create1"))?;
        let waiter = EpollWaiter {
            epoll,
            done: Waker::new().map_err(KernelError::of("eventfd"))?,
            waker: Waker::new().map_err(KernelError::of("eventfd"))?,
            events: Vec::with_capacity(2),
        };
        // Edge-triggered: each completion signals the eventfd, and nobody has to read its counter.
        let kinds = [
            (&waiter.done, DONE, EventFlags::IN | EventFlags::ET),
            (&waiter.waker, WAKER, EventFlags::IN),
        ];
        for (eventfd, data, flags) in kinds {
            epoll::add(
                &waiter.epoll,
                eventfd.as_fd(),
                EventData::new_u64(data),
                flags,
            )
            .map_err(failed("epoll_ctl"))?;
        }
        Ok(waiter)
    }

    /// The eventfd that completions signal.
    pub(crate) fn done(&self) -> &Waker {
        &self.done
    }

    /// The handle for waking the backend.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for a signal, or until `until`. It may return up to 1 ms after that.
    pub(crate) fn wait(&mut self, until: Option<Mono>) -> Result<Wakeup, KernelError> {
        let timeout = until.map(|until| {
            let span = until.since(Mono::now()).min(LONGEST);
            Timespec {
                tv_sec: span.as_secs().cast_signed(),
                tv_nsec: span.subsec_nanos().into(),
            }
        });
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(KernelError::new("epoll_wait", Errno::from(errno))),
        }
        let signalled = |data| self.events.iter().any(|event| event.data.u64() == data);
        let wakeup = Wakeup {
            done: signalled(DONE),
            woken: signalled(WAKER),
        };
        if wakeup.woken {
            self.waker.clear();
        }
        Ok(wakeup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_is_reported_once() {
        let mut waiter = EpollWaiter::new().expect("descriptors");
        let now = Mono::now();
        assert!(!waiter.wait(Some(now)).expect("works").done);
        waiter.done().wake();
        waiter.done().wake();
        let wakeup = waiter.wait(None).expect("works");
        assert!(wakeup.done && !wakeup.woken);
        assert!(!waiter.wait(Some(now)).expect("works").done);
        waiter.done().wake();
        waiter.waker().wake();
        let wakeup = waiter.wait(None).expect("works");
        assert!(wakeup.done && wakeup.woken);
        assert!(!waiter.wait(Some(now)).expect("works").woken);
    }

    #[test]
    fn a_wait_does_not_end_before_its_limit() {
        let mut waiter = EpollWaiter::new().expect("descriptors");
        let until = Mono::now() + Duration::from_micros(1500);
        waiter.wait(Some(until)).expect("works");
        assert!(Mono::now() >= until);
    }
}
