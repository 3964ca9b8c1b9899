//! The documents of the control socket: what the daemon sends and what the client commands read.
//!
//! Field names and values are a promise to users: they never change. Nothing here talks to a
//! device, a socket or a thread, and nothing here depends on the daemon. The daemon fills the
//! documents from the engine's status; the client commands, the status page and `pathpulse watch`
//! show them.

mod command;
mod document;
mod event;
#[cfg(test)]
pub(crate) mod examples;
mod name;
mod order;
mod state;
mod status;
mod time;
mod words;

pub(crate) use command::{
    AnswerDocument, PathAction, PathsDocument, RefusalDocument, ReloadDocument, StopDocument,
};
pub(crate) use document::{PathDocument, UnopenedPath};
pub(crate) use event::{EventDocument, LostDocument};
pub(crate) use name::{Name, candidates};
pub(crate) use order::{by_group, count_states};
#[cfg(test)]
pub(crate) use state::ErrnoName;
pub(crate) use state::{PathCause, PathState};
pub(crate) use status::{
    ClientsDocument, HeldProcessDocument, StatusDocument, path_document, path_documents,
};
