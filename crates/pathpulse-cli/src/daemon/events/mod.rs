//! Events: each state change of a path, and the end of its monitoring.
//!
//! Here: the thread that takes events from the engine, the history in memory, and the process that
//! stores the last events in a file. The engine produces events; the log, the followers of
//! `GET /v1/events`, the actions and the file receive them. Not here: deciding about states.

pub(crate) mod event_log;
pub(crate) mod history;
pub(crate) mod store;
pub(crate) mod store_file;

pub(crate) use store_file::keep_events;
