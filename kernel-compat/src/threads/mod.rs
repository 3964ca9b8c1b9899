//! The backend over preadv2(2) and threads, for kernels with neither io_uring nor libaio.
//!
//! A read occupies a thread until its device answers. `pool.rs` has as many as there are reads
//! that don't answer, up to a bound: beyond it, reads are refused or end in `NotStarted`, and nothing
//! is said of their devices. The threads wait in D state: like a stuck read of libaio they keep the
//! process from ending.

mod isolating;
pub(crate) mod pool;
mod reads;

use std::os::fd::OwnedFd;

use crate::backend::{
    self, Backend, BackendKind, Completion, Op, OpId, Rejected, Shutdown, Stage, Stats, Submission,
    TargetId,
};
use crate::epoll_waiter::{Doorbell, Rung};
pub use crate::threads::isolating::Isolating;
use crate::threads::reads::ThreadReads;
use crate::{Closing, KernelError, Mono, Waker, probe};

/// How to open a [`Preadv`].
#[derive(Clone, Copy, Debug)]
pub struct PreadvConfig {
    /// The most threads there may be, and with that the most reads that can be stuck before others
    /// can't be made: at least 1. Each takes 64 KiB of address space and, while it is in use, some
    /// 30 KiB of memory.
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
    bell: Doorbell,
}

impl Preadv {
    /// Proves with real reads that threads can be had.
    ///
    /// # Errors
    /// `eventfd`, `epoll_create1`, `clone` when no thread can be had, or the read that did not work.
    pub fn open(config: PreadvConfig) -> Result<Preadv, KernelError> {
        let bell = Doorbell::new()?;
        let mut preadv = Preadv {
            reads: ThreadReads::new(config.threads.max(1) as usize, bell.done().clone()),
            bell,
        };
        preadv.reads.probe()?;
        probe::self_test(&mut preadv, "preadv2")?;
        Ok(preadv)
    }

    fn try_wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let mut rung = Rung::default();
        loop {
            let next = self.reads.advance();
            let told = self.reads.hand_over(completions);
            if told || rung.woken || until.is_some_and(|until| Mono::now() >= until) {
                return Ok(());
            }
            self.reads.count_syscall();
            rung = self.bell.wait(until.into_iter().chain(next).min())?;
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
        // With nowait the call has nothing to wait for but the device. Without, it may as well be
        // waiting to get the read there.
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
        self.bell.waker()
    }

    /// Every read has a thread here.
    fn expect_blocking(&mut self, _targets: usize) {}

    fn stats(&self) -> Stats {
        self.reads.stats()
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids = self.reads.reads();
        let closings = self.reads.close();
        backend::drain(self, &ids, deadline);
        backend::wait_closed(&closings, deadline, || {
            self.reads.advance();
        });
        Shutdown::holding(self.stats().in_flight)
    }
}
