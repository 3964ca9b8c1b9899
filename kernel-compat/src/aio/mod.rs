//! The backend over Linux's native asynchronous I/O, for kernels without io_uring.
//!
//! All reads with nowait that were queued go down in one io_submit at the next wait, which can't
//! block then. A read without nowait may block io_submit for as long as its device is silent: a
//! thread makes that call (`threads/pool.rs`). It is the same context all the same, since a blocked
//! io_submit keeps nothing of it but the read's own slot.
//!
//! The kernel's limits here are hard: io_destroy and the exit of the process wait, unkillable, for
//! all reads. So io_destroy is called by threads that nobody waits for.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

mod contexts;
mod sys;

use crate::aio::contexts::{Contexts, destroy_when_drained};
use crate::aio::sys::{BATCH, Context, Event, Iocb, Pread};
use crate::backend::{
    self, Backend, BackendKind, Completion, Op, OpId, Outcome, Reject, Rejected, Shutdown, Stage,
    Stats, Submission, TargetId,
};
use crate::batching::{self, Gather};
use crate::closing::{Closing, SharedFile};
use crate::epoll_waiter::Doorbell;
use crate::errno::KernelResult;
use crate::read_tracker::{Accepted, Desk};
use crate::threads::pool::{Call, Threads, Whereabouts};
use crate::{Errno, KernelError, Key, Mono, Waker, probe};

/// How to open an [`Aio`].
#[derive(Clone, Copy, Debug)]
pub struct AioConfig {
    /// How many paths are expected. The context is made for so many, and a larger one when there are
    /// more. They count against fs.aio-max-nr.
    pub paths: u32,
}

impl Default for AioConfig {
    fn default() -> AioConfig {
        AioConfig { paths: 64 }
    }
}

/// The libaio backend.
pub struct Aio {
    desk: Desk<Place>,
    contexts: Contexts,
    /// Reads with nowait that the kernel has not seen, oldest first.
    queue: Vec<OpId>,
    batch: Vec<*mut Iocb>,
    operations: Operations,
    threads: Threads<Submit>,
    refusals: Vec<(Key, KernelResult)>,
    events: Vec<Event>,
    bell: Doorbell,
    gather: Gather,
}

/// Where a read is.
struct Place {
    /// The context that it has a slot of.
    context: u32,
    /// The kernel holds it, too, until the read has ended.
    file: Arc<SharedFile>,
    how: How,
}

enum How {
    /// In the queue.
    Queued,
    /// With the kernel, by the queue.
    Submitted,
    /// Handed to a thread.
    Threaded,
}

/// One io_submit by a thread.
struct Submit {
    context: Arc<Context>,
    operation: Iocb,
    /// What the operation names by descriptors: open until the kernel holds it.
    _open: (Arc<SharedFile>, Waker),
}

impl Call for Submit {
    fn run(mut self) -> Option<KernelResult> {
        // SAFETY: the operation is this value's. It names a buffer that the table of flights owns
        // until the read's completion, and the buffer pool leaks if that never comes.
        let submitted = unsafe { self.context.submit(&[&raw mut self.operation]) };
        submitted.err().map(Err)
    }
}

/// Operations by the place of their flight in its table. They never move, since the kernel knows a
/// read by its operation's address.
#[derive(Default)]
struct Operations {
    chunks: Vec<Box<[Iocb; Operations::CHUNK]>>,
}

impl Operations {
    const CHUNK: usize = 64;

    fn at(&mut self, id: OpId) -> &mut Iocb {
        let index = id.0.index() as usize;
        while self.chunks.len() <= index / Self::CHUNK {
            self.chunks.push(Box::new([Iocb::default(); Self::CHUNK]));
        }
        &mut self.chunks[index / Self::CHUNK][index % Self::CHUNK]
    }
}

impl Aio {
    /// Opens a context and proves with real reads that it works.
    ///
    /// # Errors
    /// `io_setup` with the likely cause when the kernel refuses (for want of fs.aio-max-nr, with
    /// what to do about it), `eventfd`, `epoll_create1`, or the read that did not work.
    pub fn open(config: AioConfig) -> Result<Aio, KernelError> {
        let bell = Doorbell::new()?;
        let contexts = Contexts::open(config.paths as usize)?;
        let mut aio = Aio {
            desk: Desk::new(),
            contexts,
            queue: Vec::new(),
            batch: Vec::new(),
            operations: Operations::default(),
            threads: Threads::new(*backend::BLOCKING_THREADS.start(), bell.done().clone()),
            refusals: Vec::new(),
            events: Vec::new(),
            bell,
            gather: Gather::default(),
        };
        probe::self_test(&mut aio, "io_submit")?;
        Ok(aio)
    }

    fn try_submit(&mut self, op: Op) -> Result<OpId, Reject> {
        self.desk.check(&op)?;
        let file = self.desk.targets.get(op.target.0).map(Arc::clone);
        let file = file.ok_or(Reject::Invalid)?;
        if !op.nowait && self.threads.are_exhausted() {
            return Err(Reject::Full);
        }
        // The stuck reads of targets that are gone have slots too.
        let paths = self.desk.targets.len() + self.desk.stats.stuck;
        if !self.contexts.take_slot(paths) {
            return Err(Reject::Full);
        }
        let context = self.contexts.current().serial;
        let place = Place {
            context,
            file,
            how: How::Threaded,
        };
        let accepted = self.desk.accept(op, place);
        if accepted.is_err() {
            self.contexts.give_slot(context);
        }
        let accepted = accepted?;
        let id = accepted.id;
        self.dispatch(&op, accepted);
        Ok(id)
    }

    /// Puts a read where it gets to the kernel from.
    fn dispatch(&mut self, op: &Op, accepted: Accepted) {
        let Accepted { id, file, address } = accepted;
        let done = self.bell.done();
        let operation = Iocb::pread(&Pread {
            data: id.0.to_bits(),
            fd: file.as_fd().as_raw_fd(),
            address: address.as_ptr(),
            len: op.len,
            offset: op.offset,
            nowait: op.nowait,
            notify: done.as_fd().as_raw_fd(),
        });
        if !op.nowait {
            let submit = Submit {
                context: Arc::clone(&self.contexts.current().context),
                operation,
                _open: (file, done.clone()),
            };
            self.threads.read(id.0, submit);
            return;
        }
        *self.operations.at(id) = operation;
        self.queue.push(id);
        if let Some(place) = self.desk.place(id) {
            place.how = How::Queued;
        }
        self.gather.submitted(1);
    }

    /// Makes a batch of the queue, without what was withdrawn from it meanwhile.
    fn make_batch(&mut self) {
        let Aio {
            desk,
            contexts,
            operations,
            batch,
            ..
        } = self;
        batch.clear();
        self.queue.retain(|id| {
            let Some(place) = desk.place(*id) else {
                return false;
            };
            // It may have been queued for a context that has been outgrown since.
            place.context = contexts.move_slot(place.context);
            batch.push(operations.at(*id));
            true
        });
    }

    /// Hands the queue to the kernel; says whether that took anything.
    fn flush(&mut self) -> bool {
        self.make_batch();
        let mut sent = 0;
        while sent < self.batch.len() {
            self.desk.stats.syscalls += 1;
            let context = &self.contexts.current().context;
            // SAFETY: the operations lie in `operations`, where they don't move, and are nobody
            // else's now. They name buffers that the table of flights owns until the completions,
            // and that the pool leaks if these never come.
            match unsafe { context.submit(&self.batch[sent..]) } {
                Ok(count) => {
                    let first = sent;
                    sent += count;
                    self.mark_submitted(first..sent);
                }
                // No room: what completes makes some.
                Err(Errno::EAGAIN) => break,
                Err(errno) => {
                    let id = self.queue[sent];
                    self.end(id, Err(errno));
                    sent += 1;
                }
            }
        }
        self.queue.drain(..sent);
        sent > 0
    }

    fn mark_submitted(&mut self, range: std::ops::Range<usize>) {
        for id in &self.queue[range] {
            if let Some(place) = self.desk.place(*id) {
                place.how = How::Submitted;
            }
        }
    }

    /// Takes completions: at least `least`, unless that takes longer than `limit`.
    fn reap(&mut self, least: u32, limit: Duration) -> Result<(), KernelError> {
        let mut events = std::mem::take(&mut self.events);
        let calls = self
            .contexts
            .completions(least, limit, &mut events)
            .map_err(|errno| KernelError::new("io_getevents", errno))?;
        self.desk.stats.syscalls += calls;
        self.gather.came(events.len() as u32);
        for event in events.drain(..) {
            self.gather.ended();
            self.end(OpId(Key::from_bits(event.data)), event.result());
        }
        self.events = events;
        Ok(())
    }

    /// The kernel knows nothing of a read any more.
    fn end(&mut self, id: OpId, result: KernelResult) {
        match self.desk.ended(id, result) {
            Some(place) => self.leave(place),
            None => self.desk.stats.strays += 1,
        }
    }

    /// What a read had is free.
    fn leave(&mut self, Place { context, file, .. }: Place) {
        self.contexts.give_slot(context);
        if file.is_given_up() {
            // Closing it may take as long as the device likes.
            self.threads.chore(Box::new(move || drop(file)));
        }
    }

    /// The kernel has never known of a read.
    fn withdraw(&mut self, id: OpId, outcome: Outcome) {
        if let Some(place) = self.desk.withdrawn(id, outcome) {
            self.leave(place);
        }
    }

    /// Takes the reads that io_submit refused to a thread.
    fn take_refusals(&mut self) {
        let mut refusals = std::mem::take(&mut self.refusals);
        self.threads.results(&mut refusals);
        for (key, result) in refusals.drain(..) {
            self.end(OpId(key), result);
        }
        self.refusals = refusals;
    }

    fn expire(&mut self) {
        let now = Mono::now();
        while let Some(id) = self.desk.overdue(now) {
            let stage = match self.desk.place(id).map(|place| &place.how) {
                None => continue,
                Some(How::Queued) => None,
                Some(How::Submitted) => {
                    self.try_to_cancel(id);
                    Some(Stage::Device)
                }
                Some(How::Threaded) => match self.threads.give_up(id.0) {
                    Whereabouts::TakenBack => None,
                    Whereabouts::Running => Some(Stage::Submission),
                    Whereabouts::Returned => {
                        // Unless it was refused since the last look.
                        self.take_refusals();
                        Some(Stage::Device)
                    }
                },
            };
            match stage {
                None => self.withdraw(id, Outcome::NotStarted),
                Some(stage) => self.desk.expired(id, stage),
            }
        }
    }

    /// For the day that a kernel can. Threads' reads are left out: their operations are gone.
    fn try_to_cancel(&mut self, id: OpId) {
        let serial = self.desk.place(id).map(|place| place.context);
        if let Some(room) = serial.and_then(|serial| self.contexts.get(serial)) {
            self.desk.stats.syscalls += 1;
            // SAFETY: the operation lies in `operations`.
            unsafe { room.context.cancel(self.operations.at(id)) };
        }
    }

    /// Everything that can be done without waiting, but for the moment that completions need to
    /// gather, if `patient`.
    fn advance(&mut self, rung: bool, patient: bool) -> Result<Option<Mono>, KernelError> {
        let submitted = self.flush();
        let again = self.threads.dispatch();
        if !patient {
            self.gather.sent();
            self.reap(0, Duration::ZERO)?;
            return self.conclude(again);
        }
        let want = self.gather.want().min(BATCH as u32);
        if submitted || want > 1 {
            self.reap(want, Duration::from_micros(batching::LIMIT_US.into()))?;
        } else if rung
            || self
                .desk
                .next_deadline()
                .is_some_and(|next| Mono::now() >= next)
        {
            // What has ended before its deadline was not late, though we are.
            self.reap(0, Duration::ZERO)?;
        }
        self.conclude(again)
    }

    /// What follows from what was reaped.
    fn conclude(&mut self, again: Option<Mono>) -> Result<Option<Mono>, KernelError> {
        self.take_refusals();
        self.expire();
        debug_assert_eq!(
            self.contexts.held(),
            self.desk.stats.in_flight,
            "each read has one slot"
        );
        for context in self.contexts.drained() {
            self.threads.chore(Box::new(move || context.destroy()));
        }
        Ok(again)
    }

    fn try_wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let mut rung = crate::epoll_waiter::Rung::default();
        loop {
            let patient = until.is_none_or(|until| until > Mono::now());
            let again = self.advance(rung.done, patient)?;
            let told = self.desk.hand_over(completions);
            if told || rung.woken || until.is_some_and(|until| Mono::now() >= until) {
                return Ok(());
            }
            let limits = [until, self.desk.next_deadline(), again];
            self.desk.stats.syscalls += 1;
            rung = self.bell.wait(limits.into_iter().flatten().min())?;
        }
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
        self.desk.attach(file)
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        let Some(file) = self.desk.targets.remove(target.0) else {
            return Closing::nothing();
        };
        let closing = file.closing();
        self.threads.chore(Box::new(move || drop(file)));
        closing
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.try_submit(op).map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        let withdrawn = match self.desk.place(id).map(|place| &place.how) {
            None => false,
            Some(How::Queued) => true,
            Some(How::Threaded) => self.threads.take_back(id.0),
            Some(How::Submitted) => {
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
        self.desk.closed |= result.is_err();
        result
    }

    fn waker(&self) -> Waker {
        self.bell.waker()
    }

    fn expect_blocking(&mut self, targets: usize) {
        self.threads
            .allow(targets.min(*backend::BLOCKING_THREADS.end()));
    }

    fn stats(&self) -> Stats {
        self.desk.stats
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids: Vec<OpId> = self.desk.places().map(|(id, _)| id).collect();
        let targets = backend::ids_of(&self.desk.targets).into_iter();
        let closings: Vec<Closing> = targets.map(|id| self.detach(id)).collect();
        backend::drain(self, &ids, deadline);
        backend::wait_closed(&closings, deadline, || {
            self.threads.dispatch();
        });
        self.desk.closed = true;
        self.desk.left()
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.desk.targets);
        self.threads.chore(Box::new(move || drop(targets)));
        for room in self.contexts.all() {
            let with_kernel = |(id, place): &(OpId, &Place)| {
                place.context == room.serial
                    && match place.how {
                        How::Queued => false,
                        How::Submitted => true,
                        How::Threaded => !self.threads.take_back(id.0),
                    }
            };
            let held = self.desk.places().filter(with_kernel).count();
            let context = Arc::clone(&room.context);
            self.threads
                .chore(Box::new(move || destroy_when_drained(&context, held)));
        }
    }
}
