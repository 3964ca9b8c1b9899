//! Reads that have no linked timeout: this thread watches their deadlines.

use super::*;

impl Uring {
    /// Watches a deadline. When it passes and the read is still in flight, `probe_overdue` handles
    /// it.
    pub(super) fn watch(&mut self, deadline: Mono, read: Key) {
        let flights = &self.flights;
        let live = |key| flights.get(key).is_some();
        self.deadlines.push(deadline, read, flights.len(), live);
    }

    /// Watches the deadline of a read that is not linked to it. Returns the SQE of the read.
    pub(super) fn watch_deadline(
        &mut self,
        op: &Op,
        key: Key,
        read: squeue::Entry,
    ) -> squeue::Entry {
        self.watch(op.deadline, key);
        if op.nowait {
            return read;
        }
        // Send it to a kernel thread at once. Otherwise the ring tries the read first. Most files
        // then report that they would block, but a FUSE file asks its server and waits for the
        // answer.
        read.flags(squeue::Flags::ASYNC)
    }

    /// Sends an ASYNC_CANCEL for each unlinked read whose deadline has passed, to find out where it
    /// is. Returns whether there were any. The kernel answers as soon as the request is submitted.
    pub(super) fn probe_overdue(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut any = false;
        let at = Mono::now();
        while let Some(id) = self.deadlines.pop(at).map(OpId) {
            let Some(Flight { op, state, .. }) = self.flights.get_mut(id.0) else {
                continue;
            };
            let token = op.token;
            state.probe();
            any = true;
            if self.queue_cancel(id) {
                continue;
            }
            // There is no space for the request. The read has to count as blocked in submission,
            // because it is unknown whether the device has it.
            let outcomes = self.other_completed(id, CompletionKind::Cancel, Err(Errno::EAGAIN));
            let outcomes = outcomes
                .into_iter()
                .flat_map(|(_, outcomes)| outcomes)
                .flatten();
            completions.extend(outcomes.map(|outcome| Completion {
                id,
                token,
                at,
                outcome,
            }));
        }
        any
    }
}
