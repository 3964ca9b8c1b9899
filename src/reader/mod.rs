//! The border between a supervisor and its readers, the processes that open devices and read them.
//!
//! The supervisor opens no device, reads none and waits for none, so it can always answer and
//! always end. It starts readers, watches them and replaces them (`supervisor.rs`, `process.rs`). A
//! reader does what it is told (`serve.rs`). They exchange messages over a socket (`message`,
//! `codec`), and the reader writes the status of its paths into memory that both share
//! (`segment.rs`, `slots.rs`). They share no other descriptors.

mod codec;
mod link;
mod message;
mod process;
#[cfg(test)]
mod samples;
mod segment;
mod serve;
mod slots;
mod supervisor;

pub(crate) use process::{OpenReport, OpenedBy};
pub use serve::run_reader;
pub(crate) use supervisor::{NewRecord, Supervisor};
