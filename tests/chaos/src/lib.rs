//! Chaos tests: random faults, determined by a seed, are injected into real block devices, and
//! every event of the daemon is checked against the faults.
//!
//! | modules | contents |
//! |---|---|
//! | `fault`, `script`, `scenario_runner` | the faults, the script of a disk, and its execution |
//! | `model`, `oracle`, `limits` | what was done, the expected events, their time limits (pure) |
//! | `disk_driver`, `control` | the disks, and a disk without faults |
//! | `daemon`, `run` | the daemon's process, and the run that connects everything |
//! | `report`, `usage`, `soak` | the results, and the daemon's resource usage |
//!
//! An event counts when it arrives at a reader of `/v1/events?follow=true`, and at the time of its
//! arrival.
#![forbid(unsafe_code)]

mod control;
mod daemon;
mod disk_driver;
mod fault;
mod limits;
mod message;
mod model;
mod oracle;
mod report;
mod run;
mod scenario_runner;
mod script;
mod soak;
mod usage;

pub use daemon::{Checks, Daemon, PathStatus, Settings, Status};
pub use disk_driver::Disks;
pub use fault::{CheckOutcome, Effect, Fault};
pub use limits::{At, Limits};
pub use message::Clock;
pub use oracle::{EventMsg, Finding, Oracle};
pub use report::Report;
pub use run::{Options, Run, Until};
pub use script::{Action, Errno, FaultMix, Step, Wait, script};
pub use soak::soak;
pub use usage::Usage;
