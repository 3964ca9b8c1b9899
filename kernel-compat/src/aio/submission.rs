//! Submits reads: those with nowait in batches, the others through threads.

use super::*;

/// One io_submit made by a thread.
pub(super) struct SubmitCall {
    context: Arc<Context>,
    iocb: Iocb,
    /// The files behind the operation's descriptors. They stay open until the kernel holds them.
    _open: (Arc<SharedFile>, Waker),
}

impl Call for SubmitCall {
    fn run(mut self) -> Option<KernelResult> {
        // SAFETY: this value owns the operation. The operation names a buffer that the table of
        // flights owns until the read's completion, and that the pool leaks if that never arrives.
        let submitted = unsafe { self.context.submit(&[&raw mut self.iocb]) };
        submitted.err().map(Err)
    }
}

/// The iocb of each flight, by the flight's index. They never move, because the kernel identifies a
/// read by the address of its iocb.
#[derive(Default)]
pub(super) struct IocbTable {
    chunks: Vec<Box<[Iocb; IocbTable::CHUNK]>>,
}

impl IocbTable {
    const CHUNK: usize = 64;

    pub(super) fn at(&mut self, id: OpId) -> &mut Iocb {
        let index = id.0.index() as usize;
        while self.chunks.len() <= index / Self::CHUNK {
            self.chunks.push(Box::new([Iocb::default(); Self::CHUNK]));
        }
        &mut self.chunks[index / Self::CHUNK][index % Self::CHUNK]
    }
}

impl Aio {
    pub(super) fn try_submit(&mut self, op: Op) -> Result<OpId, Reject> {
        self.tracker.check(&op)?;
        let file = self.tracker.targets.get(op.target.0).map(Arc::clone);
        let file = file.ok_or(Reject::Invalid)?;
        if !op.nowait && self.threads.are_exhausted() {
            return Err(Reject::Full);
        }
        // The stuck reads of detached targets have slots too.
        let paths = self.tracker.targets.len() + self.tracker.stats.stuck;
        if !self.contexts.take_slot(paths) {
            return Err(Reject::Full);
        }
        let context = self.contexts.current().serial;
        let read = AioRead {
            context,
            file,
            phase: Phase::Threaded,
        };
        let accepted = self.tracker.accept(op, read);
        if accepted.is_err() {
            self.contexts.release_slot(context);
        }
        let accepted = accepted?;
        let id = accepted.id;
        self.dispatch(&op, accepted);
        Ok(id)
    }

    /// Queues a read for the kernel, or passes it to a thread.
    fn dispatch(&mut self, op: &Op, accepted: Accepted) {
        let Accepted { id, file, address } = accepted;
        let done = self.waiter.done();
        let iocb = Iocb::pread(&ReadParams {
            data: id.0.to_bits(),
            fd: file.as_fd().as_raw_fd(),
            address: address.as_ptr(),
            len: op.len,
            offset: op.offset,
            nowait: op.nowait,
            notify: done.as_fd().as_raw_fd(),
        });
        if !op.nowait {
            let submit = SubmitCall {
                context: Arc::clone(&self.contexts.current().context),
                iocb,
                _open: (file, done.clone()),
            };
            self.threads.queue_read(id.0, submit);
            return;
        }
        *self.iocbs.at(id) = iocb;
        self.queue.push(id);
        if let Some(read) = self.tracker.state_mut(id) {
            read.phase = Phase::Queued;
        }
        self.batching.submitted(1);
    }

    /// Builds a batch from the queue, without the reads that were withdrawn in the meantime.
    fn make_batch(&mut self) {
        let Aio {
            tracker,
            contexts,
            iocbs,
            batch,
            ..
        } = self;
        batch.clear();
        self.queue.retain(|id| {
            let Some(read) = tracker.state_mut(*id) else {
                return false;
            };
            // A larger context may have replaced the one for which it was queued.
            read.context = contexts.move_slot(read.context);
            batch.push(iocbs.at(*id));
            true
        });
    }

    /// Submits the queue to the kernel. Returns whether it took anything.
    pub(super) fn flush(&mut self) -> bool {
        self.make_batch();
        let mut sent = 0;
        while sent < self.batch.len() {
            self.tracker.stats.syscalls += 1;
            let context = &self.contexts.current().context;
            // SAFETY: the iocbs are in `iocbs`, where they don't move, and nothing else accesses
            // them now. They name buffers that the table of flights owns until the completions, and
            // that the pool leaks if these never arrive.
            match unsafe { context.submit(&self.batch[sent..]) } {
                Ok(count) => {
                    let first = sent;
                    sent += count;
                    self.mark_submitted(first..sent);
                }
                // The context is full. Completions free slots.
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
            if let Some(read) = self.tracker.state_mut(*id) {
                read.phase = Phase::Submitted;
            }
        }
    }
}
