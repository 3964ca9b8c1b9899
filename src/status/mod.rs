//! Status that workers write and any thread reads. No lock here blocks a worker for long.
//!
//! Each path has one status cell (`cell.rs`, with its latency window in `window.rs`), each group
//! one histogram (`group.rs`, `latency.rs`), and each worker one status of its own
//! (`worker_status.rs`). A worker is the only writer of its cells and sends events to subscribers
//! (`event.rs`). The registry (`registry/`) records which paths a monitor has and which worker
//! owns each of them. Nothing here decides about a path: that is done in `health`.

mod cell;
mod event;
mod group;
mod latency;
mod path;
mod path_status;
mod registry;
mod removed_path;
mod window;
mod worker_status;

#[cfg(test)]
pub(crate) use cell::CELL_WORDS;
pub(crate) use cell::{SHARED_CELL_WORDS, StatusCell};
pub(crate) use event::Subscriber;
pub use event::{Backlog, Event, EventStream, Next};
pub(crate) use group::GroupCell;
pub use group::GroupStatus;
pub use latency::LatencyHistogram;
pub(crate) use latency::{HISTOGRAM_WORDS, Histogram};
pub use path::{PathId, PathInfo};
pub use path_status::{Counts, OVERDUE_GRACE, PathStatus};
pub(crate) use registry::{NameDecision, SharedRegistry};
pub use removed_path::{Released, RemovedPath};
pub use window::Latency;
pub use worker_status::{Lag, Outcomes, WorkerStatus};
pub(crate) use worker_status::{PROGRESS_WORDS, Progress};
