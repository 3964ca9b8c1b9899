//! The backend over preadv2(2) and threads, for kernels with neither io_uring nor libaio.
//!
//! A read occupies a thread until its device answers. `pool.rs` starts one thread for each read
//! that gets no answer, up to a limit. Beyond the limit, reads are refused or end in `NotStarted`,
//! which says nothing about their devices. The threads wait in D state: like a stuck read of
//! libaio, they keep the process from ending.

mod isolating;
pub(crate) mod pool;
mod reads;
mod sizing;
mod worker;

use std::os::fd::OwnedFd;

use crate::backend::{
    self, Backend, BackendKind, Completion, Op, OpId, Rejected, Shutdown, Stage, Stats, Submission,
    TargetId,
};
use crate::epoll_waiter::{EpollWaiter, Wakeup};
use crate::self_test::self_test;
pub use crate::threads::isolating::Isolating;
use crate::threads::reads::ThreadReads;
use crate::{Closing, KernelError, Mono, Waker};

/// How to open a [`Preadv`].
#[derive(Clone, Copy, Debug)]
pub struct PreadvConfig {
    /// The most threads, and therefore the most reads that can be stuck before further reads are
    /// refused: at least 1. Each thread takes 64 KiB of address space and, while in use, about 30
    /// KiB of memory.
    pub threads: u32,
}

impl Default for PreadvConfig {
    fn default() -> PreadvConfig {
        PreadvConfig { threads: 1024 }
    }
}

/// The backend over synchronous reads.
pub struct Preadv {
    reads: ThreadReads,
    waiter: EpollWaiter,
}

impl Preadv {
    /// Verifies with real reads that threads can be started.
    ///
    /// # Errors
    /// `eventfd`, `epoll_create1`, `clone` if no thread can be started, or the read that did not
    /// work.
    pub fn open(config: PreadvConfig) -> Result<Preadv, KernelError> {
        let waiter = EpollWaiter::new()?;
        let mut preadv = Preadv {
            reads: ThreadReads::new(config.threads.max(1) as usize, waiter.done().clone()),
            waiter,
        };
        preadv.reads.probe()?;
        self_test(&mut preadv, "preadv2")?;
        Ok(preadv)
    }

    fn try_wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let mut wakeup = Wakeup::default();
        loop {
            let next = self.reads.advance();
            let any = self.reads.take_completions(completions);
            if any || wakeup.woken || until.is_some_and(|until| Mono::now() >= until) {
                return Ok(());
            }
            self.reads.count_syscall();
            wakeup = self.waiter.wait(until.into_iter().chain(next).min())?;
        }
    }
}

impl Backend for Preadv {
    fn kind(&self) -> BackendKind {
        BackendKind::Sync
    }

    fn now(&self) -> Mono {
        Mono::now()
    }

    fn attach(&mut self, file: OwnedFd, _submission: Submission) -> TargetId {
        self.reads.attach(file)
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        self.reads.detach(target)
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        // With nowait the call can wait only for the device. Without, it may also wait in
        // submission.
        let stage = match op.nowait {
            true => Stage::Device,
            false => Stage::Submission,
        };
        let accepted = self.reads.submit(op, stage);
        accepted.map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        self.reads.cancel(id);
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let result = self.try_wait(until, completions);
        if result.is_err() {
            self.reads.close();
        }
        result
    }

    fn waker(&self) -> Waker {
        self.waiter.waker()
    }

    /// Every read has its own thread here.
    fn expect_blocking(&mut self, _targets: usize) {}

    fn stats(&self) -> Stats {
        self.reads.stats()
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids = self.reads.ids();
        let closings = self.reads.close();
        backend::drain(self, &ids, deadline);
        backend::wait_closed(&closings, deadline, || {
            self.reads.advance();
        });
        Shutdown::from_in_flight(self.stats().in_flight)
    }
}
