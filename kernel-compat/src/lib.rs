//! The part of pathpulse that calls the kernel's I/O interfaces.
//!
//! This crate contains the [`Backend`] trait with its contract, the backends that implement it, the
//! buffers that reads write into, the table of reads in flight, and the conversion of an errno into
//! an error. It also has what divides a program into processes: memory that two of them share
//! ([`SharedMemory`], [`Words`]) and child processes ([`Child`]). It knows nothing of paths,
//! verdicts or states. Those belong to the `pathpulse` crate, which depends on this one; this crate
//! never depends on it.
//!
//! All `unsafe` code of the engine is in this crate. Each block states who owns the memory it
//! touches and who frees it.

mod aio;
mod backend;
mod batching;
mod buffer;
mod child;
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
mod inherited;
mod limits;
mod read_tracker;
mod scripted;
mod self_test;
mod shm;
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
pub use child::{Child, ChildEnd};
pub use choice::{Choice, Opened, Unavailable, open_backend};
pub use closing::{Closed, Closing};
pub use dm::{dm_message, dm_status};
pub use errno::Errno;
pub use error::KernelError;
pub use fiemap::{Extent, ExtentData, file_extents};
pub use inherited::inherited_file;
pub use limits::{exit_now, raise_open_files_limit};
pub use scripted::{Answer, Audit, Scripted};
pub use shm::{SharedMemory, Words};
pub use table::{Key, Table};
pub use threads::{Isolating, Preadv, PreadvConfig};
pub use time::Mono;
pub use uring::{RingFeatures, Uring, UringConfig, probe_uring};
pub use wake::Waker;
