//! The backend over Linux's native asynchronous I/O, for kernels without io_uring.
//!
//! All queued reads with nowait are submitted in one io_submit in the next wait. That call can't
//! block. A read without nowait may block io_submit for as long as its device does not answer, so a
//! thread makes that call (`threads/pool.rs`). It uses the same context: a blocked io_submit
//! occupies only the slot of its own read.
//!
//! The kernel imposes hard limits: io_destroy and the exit of the process wait, unkillable, for all
//! reads. So background threads call io_destroy.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

mod completion;
mod contexts;
mod submission;
mod sys;

use crate::aio::contexts::{Contexts, destroy_when_drained};
use crate::aio::submission::{IocbTable, SubmitCall};
use crate::aio::sys::{BATCH, Context, Event, Iocb, ReadParams};
use crate::backend::{
    self, Backend, BackendKind, Completion, Op, OpId, Outcome, Reject, Rejected, Shutdown, Stage,
    Stats, Submission, TargetId,
};
use crate::batching::{self, Batching};
use crate::closing::{Closing, SharedFile};
use crate::epoll_waiter::{EpollWaiter, Wakeup};
use crate::errno::KernelResult;
use crate::read_tracker::{Accepted, ReadTracker};
use crate::self_test::self_test;
use crate::threads::pool::{Call, CancelResult, Threads};
use crate::{Errno, KernelError, Key, Mono, Waker};

/// How to open an [`Aio`].
#[derive(Clone, Copy, Debug)]
pub struct AioConfig {
    /// The expected number of paths. The context has this capacity; a larger one replaces it when
    /// there are more paths. The slots count against fs.aio-max-nr.
    pub paths: u32,
}

impl Default for AioConfig {
    fn default() -> AioConfig {
        AioConfig { paths: 64 }
    }
}

/// The libaio backend.
pub struct Aio {
    tracker: ReadTracker<AioRead>,
    contexts: Contexts,
    /// Reads with nowait that the kernel has not seen, oldest first.
    queue: Vec<OpId>,
    batch: Vec<*mut Iocb>,
    iocbs: IocbTable,
    threads: Threads<SubmitCall>,
    failed_submits: Vec<(Key, KernelResult)>,
    events: Vec<Event>,
    waiter: EpollWaiter,
    batching: Batching,
}

/// The backend's state of a read.
struct AioRead {
    /// The serial number of the context that holds its slot.
    context: u32,
    /// The kernel also holds this file until the read has ended.
    file: Arc<SharedFile>,
    phase: Phase,
}

enum Phase {
    /// In the queue.
    Queued,
    /// Submitted to the kernel from the queue.
    Submitted,
    /// Passed to a thread.
    Threaded,
}

impl Aio {
    /// Opens a context and verifies with real reads that it works.
    ///
    /// # Errors
    /// `io_setup` with the likely cause if the kernel refuses (if fs.aio-max-nr is too low, with
    /// the remedy), `eventfd`, `epoll_create1`, or the read that did not work.
    pub fn open(config: AioConfig) -> Result<Aio, KernelError> {
        let waiter = EpollWaiter::new()?;
        let contexts = Contexts::open(config.paths as usize)?;
        let mut aio = Aio {
            tracker: ReadTracker::new(),
            contexts,
            queue: Vec::new(),
            batch: Vec::new(),
            iocbs: IocbTable::default(),
            threads: Threads::new(*backend::BLOCKING_THREADS.start(), waiter.done().clone()),
            failed_submits: Vec::new(),
            events: Vec::new(),
            waiter,
            batching: Batching::default(),
        };
        self_test(&mut aio, "io_submit")?;
        Ok(aio)
    }
}

impl Backend for Aio {
    fn kind(&self) -> BackendKind {
        BackendKind::Aio
    }

    fn now(&self) -> Mono {
        Mono::now()
    }

    fn attach(&mut self, file: OwnedFd, _submission: Submission) -> TargetId {
        self.tracker.attach(file)
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        let Some(file) = self.tracker.targets.remove(target.0) else {
            return Closing::nothing();
        };
        let closing = file.closing();
        self.threads.run_in_background(Box::new(move || drop(file)));
        closing
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.try_submit(op).map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        let withdrawn = match self.tracker.state_mut(id).map(|read| &read.phase) {
            None => false,
            Some(Phase::Queued) => true,
            Some(Phase::Threaded) => self.threads.remove_queued(id.0),
            Some(Phase::Submitted) => {
                self.try_to_cancel(id);
                false
            }
        };
        if withdrawn {
            self.withdraw(id, Outcome::Cancelled);
        }
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let result = self.try_wait(until, completions);
        self.tracker.closed |= result.is_err();
        result
    }

    fn waker(&self) -> Waker {
        self.waiter.waker()
    }

    fn expect_blocking(&mut self, targets: usize) {
        self.threads
            .raise_limit(targets.min(*backend::BLOCKING_THREADS.end()));
    }

    fn stats(&self) -> Stats {
        self.tracker.stats
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids: Vec<OpId> = self.tracker.states().map(|(id, _)| id).collect();
        let targets = backend::ids_of(&self.tracker.targets).into_iter();
        let closings: Vec<Closing> = targets.map(|id| self.detach(id)).collect();
        backend::drain(self, &ids, deadline);
        backend::wait_closed(&closings, deadline, || {
            self.threads.dispatch();
        });
        self.tracker.closed = true;
        self.tracker.shutdown_result()
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.tracker.targets);
        self.threads
            .run_in_background(Box::new(move || drop(targets)));
        for slots in self.contexts.all() {
            let with_kernel = |(id, read): &(OpId, &AioRead)| {
                read.context == slots.serial
                    && match read.phase {
                        Phase::Queued => false,
                        Phase::Submitted => true,
                        Phase::Threaded => !self.threads.remove_queued(id.0),
                    }
            };
            let held = self.tracker.states().filter(with_kernel).count();
            let context = Arc::clone(&slots.context);
            self.threads
                .run_in_background(Box::new(move || destroy_when_drained(&context, held)));
        }
    }
}
