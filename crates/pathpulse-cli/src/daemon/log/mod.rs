//! The daemon's log: lines on stderr, or records for journald.
//!
//! Here: the thread that writes, and journald's record format. A caller never waits: when the
//! reader of the log is slow, lines are dropped and counted. Not here: the texts.

mod journald;
mod writer;

pub(crate) use writer::{Filter, Log};
