//! The backend over preadv2(2) and threads, for kernels with neither io_uring nor libaio.
//!
//! A read occupies a thread until its device answers. `threads.rs` has as many as there are reads
//! that don't answer, up to a bound: beyond it, reads are refused or end in `NotStarted`, and nothing
//! is said of their devices. The threads wait in D state: like a stuck read of libaio they keep the
//! process from ending.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::io::ReadWriteFlags;

use crate::backend::{
    self, Backend, BackendKind, Completion, Op, OpId, Outcome, Reject, Rejected, Shutdown, Stage,
    Stats, TargetId,
};
use crate::desk::{Accepted, Desk};
use crate::doorbell::{Doorbell, Rung};
use crate::link::KernelResult;
use crate::threads::{Call, Threads, Whereabouts};
use crate::{Errno, KernelError, Key, Mono, Waker, probe};

/// How to open a [`Preadv`].
#[derive(Clone, Copy, Debug)]
pub struct PreadvConfig {
    /// The most threads there may be, and with that the most reads that can be stuck before others
    /// can't be made: at least 1. Each takes 64 KiB of address space and, while it is in use, some
    /// 30 KiB of memory.
    pub threads: u32,
}

impl Default for PreadvConfig {
    fn default() -> PreadvConfig {
        PreadvConfig { threads: 1024 }
    }
}

/// The backend over synchronous reads.
pub struct Preadv {
    desk: Desk<Stage>,
    threads: Threads<Pread>,
    results: Vec<(Key, KernelResult)>,
    bell: Doorbell,
}

/// One read by a thread.
struct Pread {
    file: Arc<OwnedFd>,
    address: NonNull<u8>,
    op: Op,
}

// SAFETY: the buffer at `address` is owned by the table of flights until this read's result is
// taken, and touched by nobody else; if the backend is dropped before, the buffer pool leaks it.
unsafe impl Send for Pread {}

impl Call for Pread {
    fn run(self) -> Option<KernelResult> {
        // SAFETY: see `Send`; buffers are initialised, and at least `len` bytes long.
        let buffer =
            unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.op.len as usize) };
        let offset = self.op.offset;
        let read = if self.op.nowait {
            let buffers = &mut [IoSliceMut::new(buffer)];
            rustix::io::preadv2(&self.file, buffers, offset, ReadWriteFlags::NOWAIT)
        } else {
            rustix::io::pread(&self.file, buffer, offset)
        };
        Some(match read.map_err(Errno::from) {
            Ok(bytes) => Ok(u32::try_from(bytes).unwrap_or(u32::MAX)),
            // No preadv2 (before Linux 4.6, or filtered): then no file takes nowait.
            Err(Errno::ENOSYS) if self.op.nowait => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(errno),
        })
    }
}

impl Preadv {
    /// Proves with real reads that threads can be had.
    ///
    /// # Errors
    /// `eventfd`, `epoll_create1`, `clone` when no thread can be had, or the read that did not work.
    pub fn open(config: PreadvConfig) -> Result<Preadv, KernelError> {
        let bell = Doorbell::new()?;
        let mut preadv = Preadv {
            desk: Desk::new(),
            threads: Threads::new(config.threads.max(1) as usize, bell.done().clone()),
            results: Vec::new(),
            bell,
        };
        preadv.threads.probe()?;
        probe::self_test(&mut preadv, "preadv2")?;
        Ok(preadv)
    }

    fn try_submit(&mut self, op: Op) -> Result<OpId, Reject> {
        self.desk.check(&op)?;
        if self.threads.are_exhausted() {
            return Err(Reject::Full);
        }
        // With nowait the call has nothing to wait for but the device. Without, it may as well be
        // waiting to get the read there.
        let stage = match op.nowait {
            true => Stage::Device,
            false => Stage::Submission,
        };
        let Accepted { id, file, address } = self.desk.accept(op, stage)?;
        self.threads.read(id.0, Pread { file, address, op });
        Ok(id)
    }

    fn take_results(&mut self) {
        let mut results = std::mem::take(&mut self.results);
        self.threads.results(&mut results);
        for (key, result) in results.drain(..) {
            if self.desk.ended(OpId(key), result).is_none() {
                self.desk.stats.strays += 1;
            }
        }
        self.results = results;
    }

    fn expire(&mut self) {
        let now = Mono::now();
        while let Some(id) = self.desk.overdue(now) {
            match (self.threads.give_up(id.0), self.desk.place(id)) {
                (Whereabouts::TakenBack, _) => {
                    self.desk.withdrawn(id, Outcome::NotStarted);
                }
                (Whereabouts::Running, Some(&mut stage)) => self.desk.expired(id, stage),
                // Its result came since the last look: it is not late, we are.
                _ => self.take_results(),
            }
        }
    }

    fn try_wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError> {
        let mut rung = Rung::default();
        loop {
            let again = self.threads.dispatch();
            self.take_results();
            self.expire();
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

impl Backend for Preadv {
    fn kind(&self) -> BackendKind {
        BackendKind::Sync
    }

    fn now(&self) -> Mono {
        Mono::now()
    }

    fn attach(&mut self, file: OwnedFd) -> Result<TargetId, KernelError> {
        Ok(self.desk.attach(file))
    }

    fn detach(&mut self, target: TargetId) {
        if let Some(file) = self.desk.targets.remove(target.0) {
            self.threads.chore(Box::new(move || drop(file)));
        }
    }

    fn submit(&mut self, op: Op) -> Result<OpId, Rejected> {
        self.try_submit(op).map_err(|why| Rejected { op, why })
    }

    fn cancel(&mut self, id: OpId) {
        if self.threads.take_back(id.0) {
            self.desk.withdrawn(id, Outcome::Cancelled);
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

    /// Every read has a thread here.
    fn expect_blocking(&mut self, _targets: usize) {}

    fn stats(&self) -> Stats {
        self.desk.stats
    }

    fn shutdown(&mut self, deadline: Mono) -> Shutdown {
        let ids: Vec<OpId> = self.desk.places().map(|(id, _)| id).collect();
        backend::drain(self, &ids, deadline);
        self.desk.closed = true;
        self.desk.left()
    }
}

impl Drop for Preadv {
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.desk.targets);
        self.threads.chore(Box::new(move || drop(targets)));
    }
}
