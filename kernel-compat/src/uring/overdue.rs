//! Reads whose deadlines this thread watches, since no linked timeout does.

use super::*;

impl Uring {
    /// Has a read looked after once its deadline has passed, if it is in flight then.
    pub(super) fn watch(&mut self, deadline: Mono, read: Key) {
        let flights = &self.flights;
        let live = |key| flights.get(key).is_some();
        self.deadlines.push(deadline, read, flights.len(), live);
    }

    /// Watches the deadline of a read that is not linked to it. Returns its entry.
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
        // To a kernel thread right away: the ring would try it first, and while most files say
        // then that they would block, a FUSE file asks its server, for as long as that takes.
        read.flags(squeue::Flags::ASYNC)
    }

    /// Asks where the reads are whose deadlines have passed and that are not linked to these; says
    /// whether there were any. The kernel answers as soon as the question is submitted.
    pub(super) fn ask_for_overdue(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut asked = false;
        let at = Mono::now();
        while let Some(id) = self.deadlines.pop(at).map(OpId) {
            let Some(Flight { op, notes, .. }) = self.flights.get_mut(id.0) else {
                continue;
            };
            let token = op.token;
            notes.ask();
            asked = true;
            if self.queue_cancel(id) {
                continue;
            }
            // Without room for the question the read has to count as blocked: nobody knows that
            // the device has it.
            let told = self.other_ended(id, Kind::Cancel, Err(Errno::EAGAIN));
            let outcomes = told.into_iter().flat_map(|(_, told)| told).flatten();
            completions.extend(outcomes.map(|outcome| Completion {
                id,
                token,
                at,
                outcome,
            }));
        }
        asked
    }
}
