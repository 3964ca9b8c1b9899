//! The designs of the legacy aio checker, written anew from their description, each as good as its
//! design allows: nothing is done per check but what the design asks for.
//!
//! All of them submit one read per system call, because the checker's plugin interface hands over
//! one path at a time; none uses `RWF_NOWAIT`, as the legacy checker does not.

mod aio;
pub(crate) mod group;
pub(crate) mod per_path;
pub(crate) mod plugin;
mod request;
pub(crate) mod sync;
pub(crate) mod thread;
