//! Decisions about a path: no clock, and no I/O except what a [`DeviceProbe`] does when asked.
//!
//! The worker feeds in what happened: the outcomes of reads, the time, and what the kernel reports
//! about the device through a [`DeviceProbe`]. A check turns them into one verdict (`check.rs`,
//! with `probe.rs`, `history.rs` and `evidence.rs` for the device's counters). The verdicts of a
//! path add up to a state with a cause (`state.rs`, `rules.rs`, `state_machine.rs`). Some states
//! also depend on the other paths to the same storage (`peers.rs`). Nothing here reads sysfs or
//! submits a read: that is done in `device` and `worker`.

mod check;
mod evidence;
mod fault;
mod history;
mod packed;
mod peers;
mod probe;
mod rules;
mod saved;
mod state;
mod state_machine;
mod unknown_reason;
mod verdict;

pub(crate) use check::{Check, Nowait, Step};
pub(crate) use evidence::{verdict_if_not_admitted, verdict_if_unanswered, waits_for_tag};
pub use fault::Fault;
pub(crate) use fault::{kernel_class, open_blames_device, open_reached_device};
pub(crate) use history::History;
pub(crate) use packed::{pack, unpack};
pub(crate) use peers::{COMPARED_MAX, Peer, choose_kept_up, is_slow};
pub(crate) use probe::{Activity, Counters, DeviceProbe, Layout, Leaf, LinkState, NoProbe};
pub use rules::Rules;
pub(crate) use saved::{SAVED_WORDS, Saved};
pub use state::{Cause, State};
pub(crate) use state_machine::Health;
pub use unknown_reason::UnknownReason;
pub use verdict::{Backpressure, Verdict, VerdictKind};
