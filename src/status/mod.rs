//! What workers write and anyone reads, without a lock that a worker waits for.

mod cell;
mod event;
mod group;
mod latency;
mod path;
mod registry;
mod removed_path;
mod window;
mod worker_status;

pub(crate) use cell::StatusCell;
pub use cell::{Counts, OVERDUE_GRACE, PathStatus};
pub(crate) use event::Subscriber;
pub use event::{Backlog, Event, EventStream, Next};
pub(crate) use group::GroupCell;
pub use group::GroupStatus;
pub(crate) use latency::Histogram;
pub use latency::LatencyHistogram;
pub use path::{PathId, PathInfo};
pub(crate) use registry::{Leads, Registry};
pub use removed_path::{Released, RemovedPath};
pub use window::Latency;
pub(crate) use window::Window;
pub(crate) use worker_status::Progress;
pub use worker_status::{Lag, Outcomes, WorkerStatus};
