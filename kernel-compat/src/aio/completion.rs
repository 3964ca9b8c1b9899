//! Waits, handles completions, and expires overdue reads.

use super::*;

impl Aio {
    /// Takes completions: at least `least`, unless that takes longer than `limit`.
    fn reap(&mut self, least: u32, limit: Duration) -> Result<(), KernelError> {
        let mut events = std::mem::take(&mut self.events);
        let calls = self
            .contexts
            .completions(least, limit, &mut events)
            .map_err(|errno| KernelError::new("io_getevents", errno))?;
        self.tracker.stats.syscalls += calls;
        self.batching.reaped(events.len() as u32);
        for event in events.drain(..) {
            self.batching.completed();
            self.end(OpId(Key::from_bits(event.data)), event.result());
        }
        self.events = events;
        Ok(())
    }

    /// The kernel returned a read.
    pub(super) fn end(&mut self, id: OpId, result: KernelResult) {
        match self.tracker.complete(id, result) {
            Some(read) => self.release(read),
            None => self.tracker.stats.unknown_completions += 1,
        }
    }

    /// Releases what a read held.
    fn release(&mut self, AioRead { context, file, .. }: AioRead) {
        self.contexts.release_slot(context);
        if file.is_closing() {
            // Closing it may take as long as the device does not answer.
            self.threads.run_in_background(Box::new(move || drop(file)));
        }
    }

    /// A read ends that the kernel has never seen.
    pub(super) fn withdraw(&mut self, id: OpId, outcome: Outcome) {
        if let Some(read) = self.tracker.withdraw(id, outcome) {
            self.release(read);
        }
    }

    /// Ends the reads for which a thread's io_submit failed.
    fn take_failed_submits(&mut self) {
        let mut failed_submits = std::mem::take(&mut self.failed_submits);
        self.threads.take_results(&mut failed_submits);
        for (key, result) in failed_submits.drain(..) {
            self.end(OpId(key), result);
        }
        self.failed_submits = failed_submits;
    }

    fn expire(&mut self) {
        let now = Mono::now();
        while let Some(id) = self.tracker.pop_overdue(now) {
            let stage = match self.tracker.state_mut(id).map(|read| &read.phase) {
                None => continue,
                Some(Phase::Queued) => None,
                Some(Phase::Submitted) => {
                    self.try_to_cancel(id);
                    Some(Stage::Device)
                }
                Some(Phase::Threaded) => match self.threads.abandon(id.0) {
                    CancelResult::Removed => None,
                    CancelResult::Running => Some(Stage::Submission),
                    CancelResult::Completed => {
                        // Its io_submit succeeded, unless it has failed since the last check.
                        self.take_failed_submits();
                        Some(Stage::Device)
                    }
                },
            };
            match stage {
                None => self.withdraw(id, Outcome::NotStarted),
                Some(stage) => self.tracker.expire(id, stage),
            }
        }
    }

    /// No current kernel can cancel a read; a later one may. A thread's iocb no longer exists, so
    /// its reads are not cancelled.
    pub(super) fn try_to_cancel(&mut self, id: OpId) {
        let serial = self.tracker.state_mut(id).map(|read| read.context);
        if let Some(slots) = serial.and_then(|serial| self.contexts.get(serial)) {
            self.tracker.stats.syscalls += 1;
            // SAFETY: the iocb is in `iocbs`.
            unsafe { slots.context.cancel(self.iocbs.at(id)) };
        }
    }

    /// Does everything that needs no wait, except the short wait for a batch if `may_wait`.
    fn advance(&mut self, completed: bool, may_wait: bool) -> Result<Option<Mono>, KernelError> {
        let submitted = self.flush();
        let next_dispatch = self.threads.dispatch();
        if !may_wait {
            self.batching.flushed();
            self.reap(0, Duration::ZERO)?;
            return self.conclude(next_dispatch);
        }
        let want = self.batching.want().min(BATCH as u32);
        if submitted || want > 1 {
            self.reap(want, Duration::from_micros(batching::LIMIT_US.into()))?;
        } else if completed
            || self
                .tracker
                .next_deadline()
                .is_some_and(|next| Mono::now() >= next)
        {
            // Reads that ended before their deadline must not expire, even if this thread is late.
            self.reap(0, Duration::ZERO)?;
        }
        self.conclude(next_dispatch)
    }

    /// Handles the consequences of a reap.
    fn conclude(&mut self, next_dispatch: Option<Mono>) -> Result<Option<Mono>, KernelError> {
        self.take_failed_submits();
        self.expire();
        debug_assert_eq!(
            self.contexts.held(),
            self.tracker.stats.in_flight,
            "each read has one slot"
        );
        for context in self.contexts.drained() {
            self.threads
                .run_in_background(Box::new(move || context.destroy()));
        }
        Ok(next_dispatch)
    }

    pub(super) fn try_wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let mut wakeup = Wakeup::default();
        loop {
            let may_wait = until.is_none_or(|until| until > Mono::now());
            let next_dispatch = self.advance(wakeup.done, may_wait)?;
            let any = self.tracker.take_completions(completions);
            if any || wakeup.woken || until.is_some_and(|until| Mono::now() >= until) {
                return Ok(());
            }
            let limits = [until, self.tracker.next_deadline(), next_dispatch];
            self.tracker.stats.syscalls += 1;
            wakeup = self.waiter.wait(limits.into_iter().flatten().min())?;
        }
    }
}
