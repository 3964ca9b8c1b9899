//! The designs of the legacy aio checker, implemented from their description. Each is as good as
//! its design allows: a check does nothing but what the design requires.
//!
//! All of them submit one read per system call, because the checker's plugin interface passes one
//! path at a time. None uses `RWF_NOWAIT`, because the legacy checker does not.

mod aio;
pub(crate) mod group;
pub(crate) mod per_path;
pub(crate) mod plugin;
mod request;
pub(crate) mod sync;
pub(crate) mod thread;
