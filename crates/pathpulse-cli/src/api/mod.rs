//! The documents of the control socket: what the daemon sends and what the client commands read.
//!
//! Field names and values are a promise to users: they never change. Nothing here talks to a
//! device, a socket or a thread. The daemon fills the documents from the engine's status; the
//! client commands, the status page and `pathpulse watch` show them.

pub(crate) mod document;
#[cfg(test)]
pub(crate) mod examples;
pub(crate) mod name;
pub(crate) mod order;

pub(crate) use document::{EventDocument, PathDocument, StatusDocument};
pub(crate) use name::Name;
pub(crate) use order::{by_group, count_states};
