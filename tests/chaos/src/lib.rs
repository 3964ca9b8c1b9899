//! Chaos: real block devices are put through every fault that a rig can make, by chance from a seed, and everything
//! that the daemon says is held against what was really done.
//!
//! | module | what is in it |
//! |---|---|
//! | `fault`, `script`, `player` | the faults, what each lets a reader see, what a disk is put through, and when |
//! | `truth`, `judge`, `terms` | what was done, what may and must be said of it, and by when (pure) |
//! | `crew`, `control`, `daemon`, `run` | the disks, one that nothing is done to, the daemon's process, and the run that brings them together |
//! | `figures`, `usage`, `soak` | what it came to, and what the daemon used |
//!
//! Said is what arrives at a reader of `/v1/events?follow=true`, and it is said when it arrives there.
#![forbid(unsafe_code)]

mod control;
mod crew;
mod daemon;
mod fault;
mod figures;
mod judge;
mod player;
mod run;
mod script;
mod soak;
mod terms;
mod truth;
mod usage;

pub use crew::Disks;
pub use daemon::{Checks, Daemon, PathStatus, Settings, Status};
pub use fault::{Answers, Effect, Fault};
pub use figures::Figures;
pub use judge::{Finding, Judge, Said};
pub use run::{Clock, Options, Run, Until};
pub use script::{Act, Errno, Mix, Step, Wait, script};
pub use soak::soak;
pub use terms::{At, Terms};
pub use usage::Usage;
