//! Submits reads, cancellations and the poll of the waker.

use super::*;

impl Uring {
    /// Makes space for `sqes` in the submission queue.
    pub(super) fn make_space(&mut self, sqes: usize) -> bool {
        if self.ring.free_sqes() < sqes {
            self.stats.syscalls += 1;
            // What the kernel can't take now stays queued. `wait` meets the cause again.
            let _ = self.ring.submit();
        }
        self.ring.free_sqes() >= sqes
    }

    /// The SQE of a flight's read, without its user data.
    fn read_sqe(&self, flight: &Flight<ReadState>) -> Option<squeue::Entry> {
        let buffer = flight.buffer.as_ref()?;
        let memory = ReadMemory {
            address: self.pool.address(buffer).as_ptr(),
            registered: self.pool.registered_chunk(buffer),
        };
        let target = self.targets.get(flight.op.target.0)?;
        let file = match &target.unregistered {
            None => ReadFile::Registered(flight.op.target.0.index()),
            Some(fd) => ReadFile::Descriptor(fd.as_raw_fd()),
        };
        Some(sqe::read(file, &flight.op, memory))
    }

    pub(super) fn arm_waker(&mut self) {
        if self.waker_armed || !self.make_space(1) {
            return;
        }
        let fd = types::Fd(self.waker.as_fd().as_raw_fd());
        let sqe = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .build()
            .user_data(CompletionKind::Wake.bits());
        // SAFETY: the SQE names no memory. The waker owns the eventfd and lives as long as the
        // ring.
        self.waker_armed = unsafe { self.ring.push(&[sqe]) };
    }

    /// Queues an ASYNC_CANCEL of a read. Returns whether there was space for it.
    pub(super) fn queue_cancel(&mut self, id: OpId) -> bool {
        let sqe = opcode::AsyncCancel::new(CompletionKind::Read.of(id.0))
            .build()
            .user_data(CompletionKind::Cancel.of(id.0));
        // SAFETY: the SQE names no memory.
        self.make_space(1) && unsafe { self.ring.push(&[sqe]) }
    }

    pub(super) fn try_submit(&mut self, op: Op) -> Result<OpId, Reject> {
        if self.closed {
            return Err(Reject::Broken);
        }
        let known = self.targets.get(op.target.0);
        if !(1..=MAX_READ_LEN).contains(&op.len)
            || known.is_none_or(|target| target.closed.is_some())
        {
            return Err(Reject::Invalid);
        }
        if !self.make_space(2) {
            return Err(Reject::Full);
        }
        let linked = op.nowait && self.linked_timeouts;
        let ring = &self.ring;
        let buffer = self
            .pool
            .take(op.len, |memory| ring.register_chunk(memory))
            .ok_or(Reject::NoMemory)?;
        let flight = Flight {
            op,
            buffer: Some(buffer),
            state: ReadState::new(linked),
        };
        let read = self.read_sqe(&flight).ok_or(Reject::Invalid)?;
        let key = self.flights.insert(flight);
        let read = read.user_data(CompletionKind::Read.of(key));
        let pushed = if linked {
            let deadline = self.timespecs.timeout_sqe(op.deadline);
            let link = [
                read.flags(squeue::Flags::IO_LINK),
                deadline.user_data(CompletionKind::Timeout.of(key)),
            ];
            // SAFETY: the read writes into the flight's buffer. The table of flights owns the
            // buffer until the read's own completion, and the pool leaks it if that never arrives.
            // The deadline is in `timespecs`; the kernel reads it at submission, before its slot is
            // reused.
            unsafe { self.ring.push(&link) }
        } else {
            let read = self.watch_deadline(&op, key, read);
            // SAFETY: as above.
            unsafe { self.ring.push(&[read]) }
        };
        debug_assert!(pushed, "make_space has made space");
        self.stats.in_flight += 1;
        if let Some(target) = self.targets.get_mut(op.target.0) {
            target.reads += 1;
        }
        // A linked read makes two completions: its own and its timeout's.
        self.batching.submitted(1 + u32::from(linked));
        Ok(OpId(key))
    }
}
