//! A wrapper around a backend that keeps drivers from blocking the worker's thread.
//!
//! Some drivers sleep while a read is submitted to them, on the stack of the submitting thread
//! ([`Submission::MayBlock`]). With io_uring and libaio that is the thread that waits for all other
//! paths, too. So separate threads (`threads/reads.rs`) make the reads of such targets, and the
//! inner backend makes all others. There is one `wait`: the threads wake the inner backend.
//!
//! A thread makes one read at a time, so each target with at most one read in flight occupies at
//! most one thread. A thread that is blocked in a driver keeps the process from ending, as a
//! blocked submission always does, but it blocks no other path.
//!
//! Ids are those of the inner backend or of the threads. The ids of the threads are marked.

use std::os::fd::OwnedFd;

use crate::backend::{
    self, BLOCKING_THREADS, Backend, BackendKind, Completion, Op, OpId, Rejected, Shutdown, Stage,
    Stats, Submission, TargetId,
};
use crate::threads::reads::ThreadReads;
use crate::{Closing, KernelError, Mono, Waker};

/// A backend, and threads for the targets that may block their submitter. See the module
/// documentation.
pub struct Isolating<B> {
    inner: B,
    reads: ThreadReads,
    /// The waker of the inner backend. Users wake it, and the threads notify it.
    waker: Waker,
    /// Wake-ups that were reported by `wait`.
    reported_wakes: u64,
}

impl<B: Backend> Isolating<B> {
    /// Uses as many threads as are allowed for reads that block.
    pub fn new(inner: B) -> Isolating<B> {
        Isolating::with_threads(inner, *BLOCKING_THREADS.end())
    }

    /// Uses at most `threads` threads, at least 1. Beyond these, reads of targets that may block
    /// are refused or end in [`Outcome::NotStarted`](crate::Outcome::NotStarted).
    pub fn with_threads(inner: B, threads: usize) -> Isolating<B> {
        let waker = inner.waker();
        Isolating {
            inner,
            reads: ThreadReads::new(threads.max(1), waker.clone()),
            reported_wakes: waker.wakes(),
            waker,
        }
    }

    /// Takes the completions of the threads' reads. Returns when to call it again.
    fn advance(&mut self, completions: &mut Vec<Completion>) -> Option<Mono> {
        if self.reads.is_unused() {
            return None;
        }
        let next = self.reads.advance();
        let before = completions.len();
        self.reads.take_completions(completions);
        for completion in &mut completions[before..] {
            completion.id = OpId(completion.id.0.marked());
        }
        next
    }
}

impl<B: Backend> Backend for Isolating<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    fn now(&self) -> Mono {
        self.inner.now()
    }

    fn attach(&mut self, file: OwnedFd, submission: Submission) -> TargetId {
        match submission {
            Submission::Prompt => self.inner.attach(file, submission),
            Submission::MayBlock => TargetId(self.reads.attach(file).0.marked()),
        }
    }

    fn detach(&mut self, target: TargetId) -> Closing {
        match target.0.unmarked() {
            None => self.inner.detach(target),
            Some(key) => self.reads.detach(TargetId(key)),
        }
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        let Some(key) = op.target.0.unmarked() else {
            return self.inner.submit(op);
        };
        let target = TargetId(key);
        // The driver may block the thread before the device has the read, even with nowait.
        let accepted = self.reads.submit(Op { target, ..op }, Stage::Submission);
        match accepted {
            Ok(id) => Ok(OpId(id.0.marked())),
            Err(why) => Err(Rejected { op, why }),
        }
    }

    fn cancel(&mut self, id: OpId) {
        match id.0.unmarked() {
            None => self.inner.cancel(id),
            Some(key) => self.reads.cancel(OpId(key)),
        }
    }

    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let before = completions.len();
        loop {
            let next = self.advance(completions);
            let limit = match completions.len() > before {
                // Only fetch completions and submit queued reads of the inner backend.
                true => Some(Mono::ZERO),
                false => until.into_iter().chain(next).min(),
            };
            let waited = self.inner.wait(limit, completions);
            let wakes = self.waker.wakes();
            self.advance(completions);
            if waited.is_err() {
                self.reads.close();
                return waited;
            }
            // Without a completion, a thread has notified for one that was already taken, or a time
            // limit of the threads has passed. The caller need not know.
            let is_over = until.is_some_and(|until| self.now() >= until);
            if completions.len() > before || wakes != self.reported_wakes || is_over {
                self.reported_wakes = wakes;
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Each target that may block its submitter has its isolated thread in addition.
    fn expect_blocking(&mut self, targets: usize) {
        self.inner.expect_blocking(targets);
    }

    fn stats(&self) -> Stats {
        let (inner, threads) = (self.inner.stats(), self.reads.stats());
        Stats {
            in_flight: inner.in_flight + threads.in_flight,
            stuck: inner.stuck + threads.stuck,
            syscalls: inner.syscalls + threads.syscalls,
            unknown_completions: inner.unknown_completions + threads.unknown_completions,
        }
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        for id in self.reads.ids() {
            self.reads.cancel(id);
        }
        let closings = self.reads.close();
        // The threads continue in the meantime.
        self.inner.shutdown(deadline);
        let mut dropped = Vec::new();
        self.advance(&mut dropped);
        while self.reads.stats().in_flight > 0 && self.now() < deadline {
            if self.wait(Some(deadline), &mut dropped).is_err() {
                break;
            }
            dropped.clear();
        }
        backend::wait_closed(&closings, deadline, || {
            self.reads.advance();
        });
        Shutdown::from_in_flight(self.stats().in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Outcome, Reject};
    use crate::scripted::{Answer, Scripted};
    use std::time::Duration;

    const PROMPT: u64 = 1;
    const MAY_BLOCK: u64 = 2;

    fn op(target: TargetId, token: u64) -> Op {
        Op {
            target,
            offset: 0,
            len: 512,
            deadline: Mono::now() + Duration::from_secs(60),
            nowait: false,
            token,
        }
    }

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/zero").expect("a file").into()
    }

    /// The inner backend accepts only reads with the token `PROMPT`.
    fn isolating() -> Isolating<Scripted<impl FnMut(&Op, Mono) -> Answer>> {
        let script = |op: &Op, _| {
            assert_eq!(op.token, PROMPT, "this read may block its submitter");
            Answer::After(Duration::from_millis(1), Ok(512), Stage::Device)
        };
        Isolating::with_threads(Scripted::new(0, script).expect("an eventfd"), 1)
    }

    #[test]
    fn the_inner_backend_gets_only_prompt_reads() {
        let mut backend = isolating();
        let isolated = backend.attach(file(), Submission::MayBlock);
        let other = backend.attach(file(), Submission::Prompt);
        assert_ne!(isolated, other);
        let ids = [op(isolated, MAY_BLOCK), op(other, PROMPT)]
            .map(|op| backend.submit(op).expect("the backend accepts it"));
        assert_ne!(ids[0], ids[1]);
        assert_eq!(backend.stats().in_flight, 2);
        let mut completions = Vec::new();
        while completions.len() < 2 {
            let until = Some(Mono::ZERO + Duration::from_millis(2));
            backend.wait(until, &mut completions).expect("it works");
            std::thread::yield_now();
        }
        completions.sort_by_key(|completion| completion.token);
        let ended: Vec<(OpId, Outcome)> = completions
            .iter()
            .map(|completion| (completion.id, completion.outcome))
            .collect();
        let read = Outcome::Read(512);
        assert_eq!(ended, [(ids[1], read), (ids[0], read)]);
        assert_eq!(backend.stats().in_flight, 0);
        backend.detach(isolated);
        let detached = op(isolated, MAY_BLOCK);
        let why = Reject::Invalid;
        assert_eq!(
            backend.submit(detached),
            Err(Rejected { op: detached, why })
        );
        assert!(backend.submit(op(other, PROMPT)).is_ok());
    }
}
