//! Decides what is due when (pure: no clock, no I/O).
//!
//! The parts: the check times of one path (`timing.rs`), the timing wheel (`wheel.rs`), the
//! distribution of the paths over their interval (`phases.rs`), and the detection of gaps in which
//! this process did not run (`gap.rs`). `spread.rs` has the numbers by which phases, and others,
//! are spread. The worker asks for due entries and passes in the current
//! time. It also makes the checks and reads the clock; this module does neither.

mod gap;
mod phases;
mod spread;
mod timing;
mod wheel;

pub(crate) use gap::{LOGGED_GAP_MIN, SchedulingGap};
pub(crate) use phases::Phases;
pub(crate) use spread::spread;
pub(crate) use timing::CheckTiming;
pub(crate) use wheel::Schedule;
