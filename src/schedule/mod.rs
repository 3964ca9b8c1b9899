//! What is due when (pure: no clock, no I/O).

mod gap;
mod phases;
mod wheel;

pub(crate) use gap::{LATE_REMARKABLE, SchedulingGap};
pub(crate) use phases::Phases;
pub(crate) use wheel::{CheckTiming, Schedule};
