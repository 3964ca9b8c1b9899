//! A backend that lets no driver block the thread that waits in it.
//!
//! Some drivers sleep while a read is handed to them, on the stack of whoever does it
//! ([`Submission::MayBlock`]): with io_uring and libaio that is the thread that waits for all other
//! paths, too. So reads of such targets are made by threads of their own (`threads/reads.rs`), and all
//! others by the backend inside. There is one `wait`: the threads ring what wakes the backend inside.
//!
//! A thread makes one read at a time, so targets that are read one at a time occupy one each at most.
//! A thread that a driver holds keeps the process from ending, as a blocked submission always does;
//! it keeps no other path from being read.
//!
//! Ids are those of the side that they belong to; those of the threads' side are marked.

use std::os::fd::OwnedFd;

use crate::backend::{
    self, BLOCKING_THREADS, Backend, BackendKind, Completion, Op, OpId, Rejected, Shutdown, Stage,
    Stats, Submission, TargetId,
};
use crate::threads::reads::ThreadReads;
use crate::{Closing, KernelError, Mono, Waker};

/// A backend, and threads for the targets that may block their submitter. See the module.
pub struct Isolating<B> {
    inner: B,
    reads: ThreadReads,
    /// The waker of the backend inside: woken by others, and rung by the threads.
    waker: Waker,
    /// Wake-ups that were passed on.
    wakes: u64,
}

impl<B: Backend> Isolating<B> {
    /// With as many threads as there may be for reads that block.
    pub fn new(inner: B) -> Isolating<B> {
        Isolating::with_threads(inner, *BLOCKING_THREADS.end())
    }

    /// With `threads` at most, at least 1: beyond these, reads of targets that may block are refused
    /// or end in [`Outcome::NotStarted`](crate::Outcome::NotStarted).
    pub fn with_threads(inner: B, threads: usize) -> Isolating<B> {
        let waker = inner.waker();
        Isolating {
            inner,
            reads: ThreadReads::new(threads.max(1), waker.clone()),
            wakes: waker.wakes(),
            waker,
        }
    }

    /// Takes what the threads' reads came to; returns when to look again.
    fn advance(&mut self, completions: &mut Vec<Completion>) -> Option<Mono> {
        if self.reads.is_unused() {
            return None;
        }
        let next = self.reads.advance();
        let before = completions.len();
        self.reads.hand_over(completions);
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
            Some(own) => self.reads.detach(TargetId(own)),
        }
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        let Some(own) = op.target.0.unmarked() else {
            return self.inner.submit(op);
        };
        let target = TargetId(own);
        // The driver may hold the thread before the device has the read, with nowait, too.
        let accepted = self.reads.submit(Op { target, ..op }, Stage::Submission);
        match accepted {
            Ok(id) => Ok(OpId(id.0.marked())),
            Err(why) => Err(Rejected { op, why }),
        }
    }

    fn cancel(&mut self, id: OpId) {
        match id.0.unmarked() {
            None => self.inner.cancel(id),
            Some(own) => self.reads.cancel(OpId(own)),
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
                // What the other side has is taken, and what is queued there is handed over.
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
            // A thread may have rung for a result that was taken before, or a limit of the threads'
            // side have passed: that is nobody else's business.
            let is_over = until.is_some_and(|until| self.now() >= until);
            if completions.len() > before || wakes != self.wakes || is_over {
                self.wakes = wakes;
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Each target that may block its submitter has a thread besides.
    fn expect_blocking(&mut self, targets: usize) {
        self.inner.expect_blocking(targets);
    }

    fn stats(&self) -> Stats {
        let (inner, own) = (self.inner.stats(), self.reads.stats());
        Stats {
            in_flight: inner.in_flight + own.in_flight,
            stuck: inner.stuck + own.stuck,
            syscalls: inner.syscalls + own.syscalls,
            strays: inner.strays + own.strays,
        }
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        for id in self.reads.reads() {
            self.reads.cancel(id);
        }
        let closings = self.reads.close();
        // The threads go on meanwhile.
        self.inner.shutdown(deadline);
        let mut untold = Vec::new();
        self.advance(&mut untold);
        while self.reads.stats().in_flight > 0 && self.now() < deadline {
            if self.wait(Some(deadline), &mut untold).is_err() {
                break;
            }
            untold.clear();
        }
        backend::wait_closed(&closings, deadline, || {
            self.reads.advance();
        });
        Shutdown::holding(self.stats().in_flight)
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

    /// The backend inside has to answer for the prompt ones alone.
    fn isolating() -> Isolating<Scripted<impl FnMut(&Op, Mono) -> Answer>> {
        let script = |op: &Op, _| {
            assert_eq!(op.token, PROMPT, "whoever submits this may sleep");
            Answer::After(Duration::from_millis(1), Ok(512), Stage::Device)
        };
        Isolating::with_threads(Scripted::new(0, script).expect("an eventfd"), 1)
    }

    #[test]
    fn what_may_block_never_gets_to_the_backend_inside() {
        let mut backend = isolating();
        let own = backend.attach(file(), Submission::MayBlock);
        let other = backend.attach(file(), Submission::Prompt);
        assert_ne!(own, other);
        let ids = [op(own, MAY_BLOCK), op(other, PROMPT)]
            .map(|op| backend.submit(op).expect("the backend takes it"));
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
        backend.detach(own);
        let gone = op(own, MAY_BLOCK);
        let why = Reject::Invalid;
        assert_eq!(backend.submit(gone), Err(Rejected { op: gone, why }));
        assert!(backend.submit(op(other, PROMPT)).is_ok());
    }
}
