//! The daemon as a process: threads, signals and stop, systemd, the lock file of the socket.
//!
//! Here: what identifies a process, whether it is alive, dead or held by the kernel, and how the
//! daemon ends in time. Not here: the socket itself (`daemon::http`).

pub(crate) mod identity;
pub(crate) mod lock;
pub(crate) mod notify;
pub(crate) mod predecessors;
pub(crate) mod stop;

pub(crate) use identity::{Life, ProcessId};
pub(crate) use predecessors::{HeldProcessDocument, Predecessors};
