//! The contract between a worker and whatever carries its reads to the kernel.
//!
//! A worker hands operations to one backend and gets completions back. Every backend keeps the
//! same promises; `tests/contract` holds all of them to it:
//!
//! 1. **One end each.** An accepted operation ends in exactly one of [`Outcome::Read`],
//!    [`Outcome::Failed`], [`Outcome::NotStarted`], [`Outcome::Cancelled`] or
//!    [`Outcome::Expired`], and it ends at its deadline at the latest (plus the time until the
//!    worker calls `wait`). Only after `Expired` one more completion may follow, at any time or
//!    never: [`Outcome::Late`].
//! 2. **A refused operation comes back.** [`Backend::submit`] returns it inside [`Rejected`]; a
//!    refused operation has no completion.
//! 3. **Memory in flight is the backend's.** The buffer of a read is owned by the in-flight table
//!    from submit until the kernel gives the read back, whatever happens to the path, the worker
//!    or the backend meanwhile. A backend that is dropped leaks what the kernel still owns.
//! 4. **Nothing waits for a device.** No call blocks longer than the kernel needs to queue work,
//!    except [`Backend::wait`], which returns at `until`, at a completion or when woken. Dropping a
//!    backend is such a call too.
//! 5. **Ids are never confused.** An [`OpId`] or [`TargetId`] that is no longer valid is ignored
//!    or refused, and never means another operation or target.
//! 6. **Blocked submissions harm nobody else.** A read without [`Op::nowait`] may block a thread for
//!    as long as its device is silent. With a thread for each ([`Backend::expect_blocking`]) no read
//!    waits for another's device; with fewer, such reads end in [`Outcome::NotStarted`] or are
//!    refused, and never expire on account of another device. The same holds for every read of a
//!    target that may block its submitter ([`Submission::MayBlock`]) in [`Isolating`].
//!
//! [`Isolating`]: crate::Isolating
//!
//! # What the kernel forces
//! The same outcome means the same on every backend. These differences are the kernel's:
//!
//! "isolated" is a read of a target that may block its submitter, whatever the backend.
//!
//! | | io_uring | aio | sync | isolated |
//! |---|---|---|---|---|
//! | a process with a stuck read can end | yes | no | no | no |
//! | a read at a device occupies a thread, in D state | no | no | yes | yes |
//! | a read blocked in submission occupies a thread, in D state | yes | yes | yes | yes |
//! | the process can end while a submission is blocked | no | no | no | no |
//! | [`Stage`] of a stuck read with nowait | exact | exact | exact | always `Submission` |
//! | [`Stage`] of a stuck read without nowait | exact | exact | always `Submission` | always `Submission` |
//! | can be cancelled | what waits for a kernel thread | what waits for a thread | likewise | likewise |
//! | keeps a descriptor per target | beyond its file table | yes | yes | yes |
//! | bound of the reads in flight | memory | fs.aio-max-nr | threads | threads |
//!
//! "Can't end" means: not by SIGKILL either, before the device answers or the driver gives up.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::{Closing, Errno, KernelError, Key, Mono, Table, Waker};

/// The longest read, in bytes. One request of any common driver: longer ones may be split and
/// then answer `EAGAIN` under `RWF_NOWAIT` on a healthy device (1 MiB does on loop).
pub const MAX_READ_LEN: u32 = 128 * 1024;

/// Threads for reads without nowait, each of which may block one: at least (a ring keeps the kernel's
/// own default below that) and at most.
pub(crate) const BLOCKING_THREADS: std::ops::RangeInclusive<usize> = 8..=512;

/// Which interface of the kernel carries the reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// io_uring.
    IoUring,
    /// Linux's native asynchronous I/O, known by its library libaio.
    Aio,
    /// Synchronous reads in threads.
    Sync,
    /// No kernel at all: a script with a virtual clock, for tests.
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

/// What handing a read to a file's driver may do to the thread that submits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Submission {
    /// The driver queues the read and returns.
    #[default]
    Prompt,
    /// The driver may sleep for as long as its device is silent, also under `RWF_NOWAIT`, which
    /// covers the request's tag only: a driver flagged `BLK_MQ_F_BLOCKING` (include/linux/blk-mq.h)
    /// may sleep in its `queue_rq`, on the stack of whoever submits.
    MayBlock,
}

/// A file that was handed to a backend to be read. Never valid again after `detach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub(crate) Key);

/// An accepted operation. Never valid again after its last completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId(pub(crate) Key);

/// One read with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What to read from.
    pub target: TargetId,
    /// Where, in bytes; a multiple of the logical block size.
    pub offset: u64,
    /// How much, in bytes: 1 to [`MAX_READ_LEN`], a multiple of the logical block size.
    pub len: u32,
    /// When the caller stops waiting for it.
    pub deadline: Mono,
    /// Ask the kernel not to block in submission (`RWF_NOWAIT`, preadv2(2)): then a read that
    /// would have to wait for a free request ends in `EAGAIN`, and a file that cannot say ends
    /// it in `EOPNOTSUPP`.
    pub nowait: bool,
    /// The caller's own mark, given back with every completion.
    pub token: u64,
}

/// Where a read was when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The device has it and has not answered.
    Device,
    /// A thread is blocked with it, and whether the device has it is not known.
    Submission,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device answered with so many bytes. Final.
    Read(u32),
    /// The kernel or the device answered with an error. Final.
    Failed(Errno),
    /// The deadline passed before the kernel began; the device never saw the read. Final.
    NotStarted,
    /// It was cancelled as the caller asked. Final.
    Cancelled,
    /// The deadline passed and the kernel still owns the read: a stuck read. [`Outcome::Late`]
    /// follows when it ends.
    Expired(Stage),
    /// A stuck read ended after all, in this. Final.
    Late(Result<u32, Errno>),
}

/// Word from the backend about one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The operation.
    pub id: OpId,
    /// [`Op::token`] of the operation.
    pub token: u64,
    /// When the backend saw it.
    pub at: Mono,
    /// What happened.
    pub outcome: Outcome,
}

/// Why an operation was not accepted. None of these says anything about the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// No slot left in the queue to the kernel.
    Full,
    /// No memory for a buffer.
    NoMemory,
    /// The target is not, or no longer, known, or the length is not within its range.
    Invalid,
    /// The backend no longer works; see the error of the last `wait`.
    Broken,
}

/// A refused operation, handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The operation as it was given.
    pub op: Op,
    /// Why.
    pub why: Reject,
}

/// What a backend left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// The kernel owns nothing any more.
    Drained,
    /// The kernel still owns so many reads; their buffers are leaked on purpose.
    Quarantined(usize),
}

impl Shutdown {
    /// What it means that the kernel owns so many reads.
    pub(crate) fn holding(reads: usize) -> Shutdown {
        match reads {
            0 => Shutdown::Drained,
            held => Shutdown::Quarantined(held),
        }
    }
}

/// What a backend holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads that the kernel owns, stuck ones included.
    pub in_flight: usize,
    /// Stuck reads: past their deadline and still owned by the kernel.
    pub stuck: usize,
    /// System calls made to submit and to wait, since the start.
    pub syscalls: u64,
    /// Completions that fitted no operation, since the start. Anything but 0 is a defect.
    pub strays: u64,
}

/// Carries reads to the kernel and completions back. The module's text is the contract.
pub trait Backend {
    /// Which one this is.
    fn kind(&self) -> BackendKind;

    /// The time on the clock that the deadlines refer to.
    fn now(&self) -> Mono;

    /// Takes over an open file; a backend that can keep it without its descriptor closes that.
    /// [`Isolating`](crate::Isolating) heeds `submission`; a bare backend submits all reads alike.
    fn attach(&mut self, file: OwnedFd, submission: Submission) -> TargetId;

    /// Gives a target up. Reads in flight on it go on and end as they would. After that, and after the
    /// next `wait`, a thread closes its file, and the device is free then.
    fn detach(&mut self, target: TargetId) -> Closing;

    /// Queues a read. It reaches the kernel at the next `wait` at the latest.
    ///
    /// # Errors
    /// The operation itself, when it was not accepted.
    fn submit(&mut self, op: Op) -> Result<OpId, Rejected>;

    /// Asks the kernel to give the read up. It ends in [`Outcome::Cancelled`] if the kernel can,
    /// and goes on otherwise.
    fn cancel(&mut self, id: OpId);

    /// Submits what is queued, then waits for completions and appends them to `completions`.
    /// Returns at once if there are some, and at `until` (if given) or a wake-up if there are none.
    /// After a burst of submissions more may be gathered, for a moment, unless `until` has passed.
    ///
    /// # Errors
    /// When the backend no longer works. What was in flight stays owned by it.
    fn wait(
        &mut self,
        until: Option<Mono>,
        completions: &mut Vec<Completion>,
    ) -> Result<(), KernelError>;

    /// A handle that makes `wait` return.
    fn waker(&self) -> Waker;

    /// Says how many targets are read without [`Op::nowait`], each of which may block one kernel
    /// thread for as long as its device is silent.
    fn expect_blocking(&mut self, targets: usize);

    /// What is held now, and counters since the start.
    fn stats(&self) -> Stats;

    /// Cancels everything, gives all targets up, and waits until the kernel owns nothing and their
    /// files are closed, at the longest until `deadline`. Nobody hears of the ends any more.
    /// Afterwards every `submit` is refused.
    fn shutdown(&mut self, deadline: Mono) -> Shutdown;
}

/// All targets that there are.
pub(crate) fn ids_of<T>(targets: &Table<T>) -> Vec<TargetId> {
    targets.iter().map(|(key, _)| TargetId(key)).collect()
}

/// How often threads that close files are looked after while they are waited for: some may be blocked
/// by their devices, and more are needed then.
pub(crate) const CLOSING_LOOK: Duration = Duration::from_millis(2);

/// Waits until these files are closed, at the longest until `deadline`; meanwhile `look` is called now
/// and then.
pub(crate) fn wait_closed(closings: &[Closing], deadline: Mono, mut look: impl FnMut()) {
    for closing in closings {
        while !closing.wait(deadline.min(Mono::now() + CLOSING_LOOK)) {
            if Mono::now() >= deadline {
                return;
            }
            look();
        }
    }
}

/// What the backends' shutdowns have in common: cancels `reads` and waits for all that the kernel
/// owns, at the longest until `deadline`. Nobody hears of the ends.
pub(crate) fn drain(backend: &mut impl Backend, reads: &[OpId], deadline: Mono) {
    for id in reads {
        backend.cancel(*id);
    }
    let mut untold = Vec::new();
    while backend.stats().in_flight > 0 && backend.now() < deadline {
        if backend.wait(Some(deadline), &mut untold).is_err() {
            return;
        }
        untold.clear();
    }
}
