//! The messages between a supervisor and a reader.
//!
//! Each direction has one enum: `command.rs` has what a supervisor asks for, `report.rs` what a
//! reader answers and reports. `parts.rs` has the encodings of what they consist of. A path has an
//! `id`, which the supervisor chooses; a `request` is repeated in the answer to it.

mod command;
mod parts;
mod report;

pub(crate) use command::{CommandMsg, GroupSlot};
pub(crate) use report::ReportMsg;

/// The version of the messages. It changes when their encoding does. [`CommandMsg::Hello`] and
/// [`ReportMsg::Ready`] begin with it.
pub(crate) const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
