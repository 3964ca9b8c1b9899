//! Everything of pathpulse that touches the kernel's I/O interfaces.
//!
//! What lives here: the [`Backend`] trait with its written contract, the backends behind it, the
//! memory that reads go into, the table of what is in flight, and the one place that turns an
//! errno into an error. What does not: any notion of a path, a verdict or a state; those are the
//! `pathpulse` crate's, which depends on this one and never the other way round.
//!
//! All `unsafe` code of the engine is in this crate; each block says who owns the memory it
//! touches and who frees it.

mod aio_contexts;
mod aio_sys;
mod asked;
mod backend;
mod backend_aio;
mod backend_scripted;
mod backend_sync;
mod backend_uring;
mod buffer;
mod choice;
mod closing;
mod deadlines;
mod desk;
mod dm;
mod doorbell;
mod entry;
mod errno;
mod errno_table;
mod error;
mod fiemap;
mod gather;
mod inflight;
mod isolating;
mod life;
mod limits;
mod link;
mod probe;
mod ring;
mod table;
mod thread_reads;
mod threads;
mod time;
mod wake;

pub use backend::{
    Backend, BackendKind, Completion, MAX_READ_LEN, Op, OpId, Outcome, Reject, Rejected, Shutdown,
    Stage, Stats, Submission, TargetId,
};
pub use backend_aio::{Aio, AioConfig};
pub use backend_scripted::{Answer, Audit, Scripted};
pub use backend_sync::{Preadv, PreadvConfig};
pub use backend_uring::Uring;
pub use choice::{Choice, Opened, Unavailable, open_backend};
pub use closing::Closing;
pub use dm::{dm_message, dm_status};
pub use errno::Errno;
pub use error::KernelError;
pub use fiemap::{Extent, ExtentData, file_extents};
pub use isolating::Isolating;
pub use limits::{exit_now, raise_open_files_limit};
pub use probe::probe_uring;
pub use ring::{RingFeatures, UringConfig};
pub use table::{Key, Table};
pub use time::Mono;
pub use wake::Waker;
