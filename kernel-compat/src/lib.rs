//! Everything of pathpulse that touches the kernel's I/O interfaces.
//!
//! What lives here: the [`Backend`] trait with its written contract, the backends behind it, the
//! memory that reads go into, the table of what is in flight, and the one place that turns an
//! errno into an error. What does not: any notion of a path, a verdict or a state; those are the
//! `pathpulse` crate's, which depends on this one and never the other way round.
//!
//! All `unsafe` code of the engine is in this crate; each block says who owns the memory it
//! touches and who frees it.

mod aio;
mod backend;
mod batching;
mod buffer;
mod choice;
mod closing;
mod deadlines;
mod dm;
mod epoll_waiter;
mod errno;
mod errno_table;
mod error;
mod fiemap;
mod inflight;
mod limits;
mod probe;
mod read_tracker;
mod scripted;
mod table;
mod threads;
mod time;
mod uring;
mod wake;

pub use aio::{Aio, AioConfig};
pub use backend::{
    Backend, BackendKind, Completion, MAX_READ_LEN, Op, OpId, Outcome, Reject, Rejected, Shutdown,
    Stage, Stats, Submission, TargetId,
};
pub use choice::{Choice, Opened, Unavailable, open_backend};
pub use closing::Closing;
pub use dm::{dm_message, dm_status};
pub use errno::Errno;
pub use error::KernelError;
pub use fiemap::{Extent, ExtentData, file_extents};
pub use limits::{exit_now, raise_open_files_limit};
pub use probe::probe_uring;
pub use scripted::{Answer, Audit, Scripted};
pub use table::{Key, Table};
pub use threads::Isolating;
pub use threads::{Preadv, PreadvConfig};
pub use time::Mono;
pub use uring::Uring;
pub use uring::{RingFeatures, UringConfig};
pub use wake::Waker;
