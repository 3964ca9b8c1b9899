//! The daemon as a process: threads, signals and stop, systemd, the lock file of the socket.
//!
//! Here: what identifies a process, whether it is alive, dead or held by the kernel, and how the
//! daemon ends in time. Not here: the socket itself (`daemon::http`). Signals, /proc and the lock
//! file come in; messages to the main thread and to systemd go out.

mod identity;
mod lock;
mod notify;
mod predecessors;
mod responsiveness;
mod stop;
mod threads;

pub(crate) use identity::{Life, ProcessId, boot_id};
pub(crate) use lock::{LockError, LockFile, lock_of, recorded};
pub(crate) use notify::Notifier;
pub(crate) use predecessors::{HeldProcess, Predecessors};
pub(crate) use responsiveness::check_workers;
pub(crate) use stop::{MainMsg, Stopper, prepare};
pub(crate) use threads::{spawn, spawn_vital};
