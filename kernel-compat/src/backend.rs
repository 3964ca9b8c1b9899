//! The contract between a worker and the backend that passes its reads to the kernel.
//!
//! A worker passes operations to one backend and gets completions back. Every backend keeps these
//! promises; `tests/contract` checks them for all backends:
//!
//! 1. **One end each.** An accepted operation ends in exactly one of [`Outcome::Read`],
//!    [`Outcome::Failed`], [`Outcome::NotStarted`], [`Outcome::Cancelled`] or [`Outcome::Expired`].
//!    It ends at its deadline at the latest (plus the time until the worker calls `wait`). Only
//!    after `Expired` one more completion may follow, at any time or never: [`Outcome::Late`].
//! 2. **A refused operation is returned.** [`Backend::submit`] returns it inside [`Rejected`]. A
//!    refused operation has no completion.
//! 3. **The backend owns memory in flight.** The in-flight table owns the buffer of a read from
//!    submission until the kernel returns the read, whatever happens to the path, the worker or the
//!    backend in the meantime. A backend that is dropped leaks the buffers that the kernel still
//!    owns.
//! 4. **No call waits for a device.** No call blocks longer than the kernel needs to queue work,
//!    except [`Backend::wait`], which returns at `until`, at a completion or at a wake-up. Dropping
//!    a backend does not block either.
//! 5. **Ids are unambiguous.** An [`OpId`] or [`TargetId`] that is no longer valid is ignored or
//!    refused. It never refers to another operation or target.
//! 6. **A blocked submission affects no other target.** A read without [`Op::nowait`] may block a
//!    thread for as long as its device does not answer. With one thread for each such read
//!    ([`Backend::expect_blocking`]) no read waits for the device of another. With fewer threads,
//!    such reads end in [`Outcome::NotStarted`] or are refused, but never expire because of another
//!    device. The same holds in [`Isolating`] for every read of a target that may block its
//!    submitter ([`Submission::MayBlock`]).
//!
//! [`Isolating`]: crate::Isolating
//!
//! # Differences that the kernel imposes
//! An outcome means the same on every backend. The differences below come from the kernel.
//! "isolated" is a read of a target that may block its submitter, on any backend.
//!
//! | | io_uring | aio | sync | isolated |
//! |---|---|---|---|---|
//! | a process with a stuck read can end | yes | no | no | no |
//! | a read at a device occupies a thread, in D state | no | no | yes | yes |
//! | a read blocked in submission occupies a thread, in D state | yes | yes | yes | yes |
//! | the process can end while a submission is blocked | no | no | no | no |
//! | [`Stage`] of a stuck read with nowait | exact | exact | exact | `Submission` |
//! | [`Stage`] of a stuck read without nowait | exact | exact | `Submission` | `Submission` |
//! | cancellable reads | queued for a kernel thread | queued for a thread | as aio | as aio |
//! | keeps a descriptor per target | beyond its file table | yes | yes | yes |
//! | bound of the reads in flight | memory | fs.aio-max-nr | threads | threads |
//!
//! "Can't end" includes SIGKILL: the process ends only after the device answers or the driver gives
//! up.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::{Closing, Errno, KernelError, Key, Mono, Table, Waker};

/// The longest read, in bytes. Every common driver takes this in one request. Longer reads may be
/// split, and then fail with `EAGAIN` under `RWF_NOWAIT` on a healthy device (1 MiB does on loop).
pub const MAX_READ_LEN: u32 = 128 * 1024;

/// The least and the greatest number of threads for reads without nowait, each of which may block
/// one thread. Below the minimum, a ring keeps the kernel's own default.
pub(crate) const BLOCKING_THREADS: std::ops::RangeInclusive<usize> = 8..=512;

/// Which kernel interface performs the reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// io_uring.
    IoUring,
    /// Linux's native asynchronous I/O, known by its library libaio.
    Aio,
    /// Synchronous reads in threads.
    Sync,
    /// No kernel interface: a script with a virtual clock, for tests.
    Scripted,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::IoUring => "io_uring",
            BackendKind::Aio => "aio",
            BackendKind::Sync => "sync",
            BackendKind::Scripted => "scripted",
        })
    }
}

/// What submitting a read to a file's driver may do to the submitting thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Submission {
    /// The driver queues the read and returns.
    #[default]
    Prompt,
    /// The driver may sleep for as long as its device does not answer, also under `RWF_NOWAIT`,
    /// which covers only the request's tag. A driver with the flag `BLK_MQ_F_BLOCKING`
    /// (include/linux/blk-mq.h) may sleep in its `queue_rq`, on the stack of the submitting thread.
    MayBlock,
}

/// A file that was given to a backend for reading. Invalid after `detach`, and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub(crate) Key);

/// An accepted operation. Invalid after its last completion, and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId(pub(crate) Key);

/// One read with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// The file to read from.
    pub target: TargetId,
    /// The offset in bytes, a multiple of the logical block size.
    pub offset: u64,
    /// The length in bytes: 1 to [`MAX_READ_LEN`], a multiple of the logical block size.
    pub len: u32,
    /// When the caller stops waiting for the result.
    pub deadline: Mono,
    /// Asks the kernel not to block in submission (`RWF_NOWAIT`, preadv2(2)). A read that would
    /// have to wait for a free request then ends in `EAGAIN`. A file that does not support this
    /// ends it in `EOPNOTSUPP`.
    pub nowait: bool,
    /// A value of the caller, returned with every completion.
    pub token: u64,
}

/// Where a read was when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The device has it and has not answered.
    Device,
    /// A thread is blocked while submitting it. Whether the device has it is unknown.
    Submission,
}

/// The result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device answered with this many bytes. Final.
    Read(u32),
    /// The kernel or the device answered with an error. Final.
    Failed(Errno),
    /// The deadline passed before the kernel started. The device never saw the read. Final.
    NotStarted,
    /// The caller cancelled it. Final.
    Cancelled,
    /// The deadline passed and the kernel still owns the read: a stuck read. [`Outcome::Late`]
    /// follows when it ends.
    Expired(Stage),
    /// A stuck read ended with this result. Final.
    Late(Result<u32, Errno>),
}

/// An event of one operation, reported by the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The operation.
    pub id: OpId,
    /// [`Op::token`] of the operation.
    pub token: u64,
    /// When the backend saw it.
    pub at: Mono,
    /// The result.
    pub outcome: Outcome,
}

/// Why an operation was refused. No reason says anything about the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The queue to the kernel has no free slot.
    Full,
    /// No memory for a buffer.
    NoMemory,
    /// The target is unknown or detached, or the length is out of range.
    Invalid,
    /// The backend no longer works. The last `wait` returned the error.
    Broken,
}

/// A refused operation, returned to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The operation as it was given.
    pub op: Op,
    /// The reason.
    pub why: Reject,
}

/// The state that a backend leaves after a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// The kernel owns no reads.
    Drained,
    /// The kernel still owns this many reads. Their buffers are leaked on purpose.
    Quarantined(usize),
}

impl Shutdown {
    /// The state when the kernel still owns this many reads.
    pub(crate) fn from_in_flight(reads: usize) -> Shutdown {
        match reads {
            0 => Shutdown::Drained,
            held => Shutdown::Quarantined(held),
        }
    }
}

/// Gauges and counters of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads that the kernel owns, including stuck ones.
    pub in_flight: usize,
    /// Stuck reads: their deadline passed and the kernel still owns them.
    pub stuck: usize,
    /// System calls for submitting and waiting, since the start.
    pub syscalls: u64,
    /// Completions that match no operation, since the start. Anything but 0 is a bug.
    pub unknown_completions: u64,
}

/// Passes reads to the kernel and completions back. The module documentation is the contract.
pub trait Backend {
    /// The kind of this backend.
    fn kind(&self) -> BackendKind;

    /// The time on the clock that deadlines refer to.
    fn now(&self) -> Mono;

    /// Takes ownership of an open file. A backend that does not need the descriptor closes it.
    /// [`Isolating`](crate::Isolating) uses `submission`; every other backend ignores it.
    fn attach(&mut self, file: OwnedFd, submission: Submission) -> TargetId;

    /// Gives up a target. Reads in flight on it continue and end as usual. After they end, and
    /// after the next `wait`, a thread closes the file. Then the device is free.
    fn detach(&mut self, target: TargetId) -> Closing;

    /// Queues a read. It reaches the kernel in the next `wait` at the latest.
    ///
    /// # Errors
    /// Returns the operation if it was refused.
    fn submit(&mut self, op: Op) -> Result<OpId, Rejected>;

    /// Asks the kernel to cancel the read. The read ends in [`Outcome::Cancelled`] if that
    /// succeeds, and continues otherwise.
    fn cancel(&mut self, id: OpId);

    /// Submits queued reads, then waits for completions and appends them to `completions`. Returns
    /// at once if there are any, and otherwise at `until` (if given) or at a wake-up. After a burst
    /// of submissions it may wait a moment for more completions, unless `until` has passed.
    ///
    /// # Errors
    /// The backend no longer works. It keeps ownership of the reads in flight.
    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError>;

    /// Returns a handle that makes `wait` return.
    fn waker(&self) -> Waker;

    /// Announces how many targets are read without [`Op::nowait`]. Each of them may block one
    /// kernel thread for as long as its device does not answer.
    fn expect_blocking(&mut self, targets: usize);

    /// Current gauges, and counters since the start.
    fn stats(&self) -> Stats;

    /// Cancels all reads, gives up all targets, and waits until the kernel owns no reads and all
    /// files are closed, but not beyond `deadline`. The results of these reads are not reported.
    /// Afterwards every `submit` is refused.
    fn shutdown(&mut self, deadline: Mono) -> Shutdown;
}

/// The ids of all targets.
pub(crate) fn ids_of<T>(targets: &Table<T>) -> Vec<TargetId> {
    targets.iter().map(|(key, _)| TargetId(key)).collect()
}

/// How often to check the threads that close files while a caller waits for them. Devices may block
/// some of these threads, and then more threads are needed.
pub(crate) const CLOSING_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Waits until these files are closed, but not beyond `deadline`. Calls `poll` at short intervals.
pub(crate) fn wait_closed(closings: &[Closing], deadline: Mono, mut poll: impl FnMut()) {
    for closing in closings {
        while !closing.wait(deadline.min(Mono::now() + CLOSING_POLL_INTERVAL)) {
            if Mono::now() >= deadline {
                return;
            }
            poll();
        }
    }
}

/// The common part of the backends' shutdowns: cancels `reads` and waits until the kernel owns no
/// reads, but not beyond `deadline`. Drops their completions.
pub(crate) fn drain(backend: &mut impl Backend, reads: &[OpId], deadline: Mono) {
    for id in reads {
        backend.cancel(*id);
    }
    let mut dropped = Vec::new();
    while backend.stats().in_flight > 0 && backend.now() < deadline {
        if backend.wait(Some(deadline), &mut dropped).is_err() {
            return;
        }
        dropped.clear();
    }
}
