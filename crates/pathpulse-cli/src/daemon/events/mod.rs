//! Events: each state change of a path, and the end of its monitoring.
//!
//! Here: the thread that takes events from the engine, the history in memory, and the process that
//! stores the last events in a file. The engine produces events; the log, the followers of
//! `GET /v1/events`, the actions and the file receive them. Not here: deciding about states, and
//! what the actions do.

mod counters;
mod event_log;
mod history;
pub(crate) mod store;
mod store_file;
mod store_lines;

pub(crate) use counters::EventCounters;
pub(crate) use event_log::EventLog;
pub(crate) use history::{EventHistory, HistoryMsg};
pub(crate) use store::EventStore;
#[cfg(test)]
pub(crate) use store_file::EventFile;
pub(crate) use store_file::keep_events;
pub(crate) use store_lines::FailedPaths;
#[cfg(test)]
pub(crate) use store_lines::StoreReply;
