//! Waiting for completions and wake-ups, for backends whose kernel interface can't wait for both.

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

/// An epoll instance over two eventfds: one that completions ring, and the waker.
pub(crate) struct Doorbell {
    epoll: OwnedFd,
    done: Waker,
    waker: Waker,
    events: Vec<epoll::Event>,
}

/// Who rang.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rung {
    /// Something has completed since the last wait.
    pub(crate) done: bool,
    /// Somebody woke the backend.
    pub(crate) woken: bool,
}

impl Doorbell {
    /// # Errors
    /// `eventfd` or `epoll_create1`, when there are no descriptors or there is no memory.
    pub(crate) fn new() -> Result<Doorbell, KernelError> {
        let failed = |call| move |errno: rustix::io::Errno| KernelError::new(call, errno.into());
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("epoll_create1"))?;
        let bell = Doorbell {
            epoll,
            done: Waker::new().map_err(KernelError::of("eventfd"))?,
            waker: Waker::new().map_err(KernelError::of("eventfd"))?,
            events: Vec::with_capacity(2),
        };
        // Edge-triggered: who completes things rings, and nobody has to read the counter.
        let kinds = [
            (&bell.done, DONE, EventFlags::IN | EventFlags::ET),
            (&bell.waker, WAKER, EventFlags::IN),
        ];
        for (eventfd, data, flags) in kinds {
            epoll::add(
                &bell.epoll,
                eventfd.as_fd(),
                EventData::new_u64(data),
                flags,
            )
            .map_err(failed("epoll_ctl"))?;
        }
        Ok(bell)
    }

    /// What completions ring.
    pub(crate) fn done(&self) -> &Waker {
        &self.done
    }

    /// What the backend's users wake it by.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until it rings, or until a moment; it may return up to 1 ms after that.
    pub(crate) fn wait(&mut self, until: Option<Mono>) -> Result<Rung, KernelError> {
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
        let rang = |data| self.events.iter().any(|event| event.data.u64() == data);
        let rung = Rung {
            done: rang(DONE),
            woken: rang(WAKER),
        };
        if rung.woken {
            self.waker.clear();
        }
        Ok(rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ring_is_heard_once() {
        let mut bell = Doorbell::new().expect("descriptors");
        let now = Mono::now();
        assert!(!bell.wait(Some(now)).expect("works").done);
        bell.done().wake();
        bell.done().wake();
        let rung = bell.wait(None).expect("works");
        assert!(rung.done && !rung.woken);
        assert!(!bell.wait(Some(now)).expect("works").done);
        bell.done().wake();
        bell.waker().wake();
        let rung = bell.wait(None).expect("works");
        assert!(rung.done && rung.woken);
        assert!(!bell.wait(Some(now)).expect("works").woken);
    }

    #[test]
    fn it_does_not_ring_before_its_time() {
        let mut bell = Doorbell::new().expect("descriptors");
        let until = Mono::now() + Duration::from_micros(1500);
        bell.wait(Some(until)).expect("works");
        assert!(Mono::now() >= until);
    }
}
