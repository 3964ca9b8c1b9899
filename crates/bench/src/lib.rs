//! Benchmarks of path checkers side by side: the designs of the legacy aio checker, the real one,
//! fio, a minimal loop over io_uring, and contenders of the calling program.
//!
//! This crate does not know the engine that it measures: the program that runs a benchmark passes
//! the engine as [`ContenderType`]s. Each contender runs in its own process. So its CPU time is
//! measured separately, and a contender that can't end (a teardown that waits for a silent device)
//! is left behind and reported. The process runs the benchmark's own program, which has to call
//! [`child_main`] when it is run with [`Plan::child`], and `pathpulse_faultdisk::serve_main` with
//! [`Plan::rig`].

mod baseline;
mod child;
mod clock;
mod comparison;
mod contender;
mod deadline;
mod devices;
mod faults;
mod files;
mod fio;
mod full;
mod legacy;
mod plan;
mod plots;
mod process;
mod progress;
mod report;
mod stats;
mod strace;
mod stuck;

pub use baseline::Baseline;
pub use child::child_main;
pub use clock::read_clock;
pub use contender::{Contender, ContenderType, Job, PathCounts};
pub use deadline::DeadlineRow;
pub use faults::FaultRow;
pub use full::{CostPoint, Full};
pub use plan::{BenchError, Plan, run};
pub use plots::plot;
pub use report::{Report, Row};
pub use stats::Spread;

/// The name of fio. It is not a [`ContenderType`], but a program with its own report.
pub const FIO: &str = "fio-io_uring";

/// The contenders of this crate.
pub const CONTENDERS: [ContenderType; 6] = [
    ContenderType {
        name: "lean-io_uring",
        open: baseline::open,
    },
    ContenderType {
        name: "aio-per-path",
        open: legacy::per_path::open,
    },
    ContenderType {
        name: "aio-group",
        open: legacy::group::open,
    },
    ContenderType {
        name: "aio-thread",
        open: legacy::thread::open,
    },
    ContenderType {
        name: "sync",
        open: legacy::sync::open,
    },
    ContenderType {
        name: "libcheckdirectio",
        open: legacy::plugin::open,
    },
];
