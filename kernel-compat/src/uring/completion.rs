//! Enters the kernel, waits, and handles completions.

use super::*;

impl Uring {
    /// The loop of [`Backend::wait`].
    pub(super) fn submit_and_reap(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let before = completions.len();
        self.arm_waker();
        loop {
            let next = self.deadlines.next(|key| self.flights.get(key).is_some());
            let closer_poll = self.dispatch_closers();
            let limit = until.into_iter().chain(next).chain(closer_poll).min();
            let may_wait = limit.is_none_or(|limit| limit > Mono::now());
            self.enter(limit, may_wait)?;
            let reaped = self.reap(completions);
            if may_wait {
                self.batching.reaped(reaped);
            }
            self.close_detached();
            if self.deadlines.is_due(Mono::now()) {
                // Reads that have ended must not expire, even if this thread is late.
                self.reap_all(completions)?;
                if self.probe_overdue(completions) {
                    continue;
                }
            }
            if std::mem::take(&mut self.woken)
                || completions.len() > before
                || until.is_some_and(|until| Mono::now() >= until)
            {
                return Ok(());
            }
        }
    }

    /// Submits queued SQEs. If `may_wait`, waits until something completes, but not beyond `until`.
    fn enter(&mut self, until: Option<Mono>, may_wait: bool) -> Result<(), KernelError> {
        self.stats.syscalls += 1;
        let want = if may_wait {
            self.batching.want()
        } else {
            self.batching.flushed();
            0
        };
        let batches = want > 1 && !self.ring.features.min_wait;
        let until = if batches {
            // Without min_wait, the time limit for batching limits the whole wait.
            let limit = Mono::now() + Duration::from_micros(batching::LIMIT_US.into());
            Some(until.map_or(limit, |until| until.min(limit)))
        } else {
            until
        };
        match self.ring.submit_and_wait(want, batching::LIMIT_US, until) {
            Ok(()) => Ok(()),
            // The kernel is short of memory or of completion queue space. Queued SQEs stay queued.
            // Reaping frees space, and a short pause lets the kernel find memory.
            Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM) => {
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            }
            Err(errno) => {
                self.closed = true;
                Err(KernelError::new("io_uring_enter", errno))
            }
        }
    }

    /// Handles the completions in the queue and returns their number.
    fn reap(&mut self, completions: &mut Vec<Completion>) -> u32 {
        let Some(mut cqe) = self.ring.pop() else {
            return 0;
        };
        let at = Mono::now();
        let mut reaped = 0;
        loop {
            reaped += 1;
            self.take(&cqe, at, completions);
            match self.ring.pop() {
                Some(next) => cqe = next,
                None => return reaped,
            }
        }
    }

    /// Handles all completions of the kernel. If it is not asked to wait for any, the kernel posts
    /// only some per call.
    fn reap_all(&mut self, completions: &mut Vec<Completion>) -> Result<(), KernelError> {
        loop {
            self.enter(None, false)?;
            if self.reap(completions) == 0 {
                return Ok(());
            }
        }
    }

    fn take(&mut self, cqe: &cqueue::Entry, at: Mono, completions: &mut Vec<Completion>) {
        let (kind, key) = CompletionKind::split(cqe.user_data());
        if matches!(kind, CompletionKind::Read | CompletionKind::Timeout) {
            self.batching.completed();
        }
        let id = OpId(key);
        let result = Errno::check(cqe.result());
        let outcomes = match kind {
            CompletionKind::Read => self.read_completed(id, result),
            CompletionKind::Wake => {
                self.waker.clear();
                self.waker_armed = false;
                self.woken = true;
                return;
            }
            CompletionKind::Install => return self.close(key, result),
            _ => match self.other_completed(id, kind, result) {
                // The completion of a cancellation may arrive after the read has ended.
                None if kind == CompletionKind::Cancel => return,
                outcomes => outcomes,
            },
        };
        let Some((token, outcomes)) = outcomes else {
            self.stats.unknown_completions += 1;
            return;
        };
        completions.extend(outcomes.into_iter().flatten().map(|outcome| Completion {
            id,
            token,
            at,
            outcome,
        }));
    }

    /// Handles the read's own completion: the kernel returns the buffer.
    pub(super) fn read_completed(
        &mut self,
        id: OpId,
        result: KernelResult,
    ) -> Option<(u64, Outcomes)> {
        let flight = self.flights.get_mut(id.0)?;
        let was_stuck = usize::from(flight.state.is_stuck());
        assert!(
            self.stats.stuck >= was_stuck,
            "the stuck read was not counted"
        );
        self.stats.stuck -= was_stuck;
        let outcomes = (flight.op.token, flight.state.read_completed(result));
        if let Some(buffer) = flight.buffer.take() {
            self.pool.put(buffer);
            assert!(self.stats.in_flight > 0, "the read was not counted");
            self.stats.in_flight -= 1;
            if let Some(target) = self.targets.get_mut(flight.op.target.0) {
                assert!(target.reads > 0, "the read was not counted");
                target.reads -= 1;
            }
        }
        if flight.state.is_over() {
            debug_assert!(
                flight.buffer.is_none(),
                "the buffer is returned when its read ends"
            );
            self.flights.remove(id.0);
        }
        debug_assert!(self.stats.in_flight <= self.flights.len());
        Some(outcomes)
    }

    /// Handles the completion of the read's timeout or of a cancellation.
    pub(super) fn other_completed(
        &mut self,
        id: OpId,
        kind: CompletionKind,
        result: KernelResult,
    ) -> Option<(u64, Outcomes)> {
        let flight = self.flights.get_mut(id.0)?;
        let (was_stuck, deadline) = (flight.state.is_stuck(), flight.op.deadline);
        let outcomes = (flight.op.token, flight.state.other_completed(kind, result));
        let is_unlinked = flight.state.is_unlinked();
        self.stats.stuck += usize::from(flight.state.is_stuck() && !was_stuck);
        if flight.state.is_over() {
            debug_assert!(
                flight.buffer.is_none(),
                "the buffer is returned when its read ends"
            );
            self.flights.remove(id.0);
        }
        if is_unlinked && kind == CompletionKind::Timeout {
            self.watch(deadline, id.0);
        }
        Some(outcomes)
    }
}
