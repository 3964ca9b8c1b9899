//! Decisions about a path (pure: no clock, no I/O): what one check showed, and what checks add up to.
//!
//! A check makes a verdict of what the backend and the device's counters say (`check.rs`, `evidence.rs`); the
//! stream of verdicts adds up to a state with a cause (`state.rs`), also in comparison with the paths to the
//! same storage (`peers.rs`).

mod check;
mod evidence;
mod fault;
mod peers;
mod state;
mod verdict;

pub(crate) use check::{Check, Nowait, Step, unanswered, waits_for_tag};
pub(crate) use evidence::{
    Activity, Counters, DeviceProbe, History, Layout, Leaf, LinkState, NoProbe, Silence,
    when_kept_out,
};
pub use fault::Fault;
pub(crate) use fault::{kernel_class, open_blames_device, open_fell_short};
pub(crate) use peers::{COMPARED, Peer, is_slow, kept_up};
pub(crate) use state::Health;
pub use state::{Cause, Rules, State};
pub use verdict::{Backpressure, UnknownReason, Verdict, VerdictKind};
