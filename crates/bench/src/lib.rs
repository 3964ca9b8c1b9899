//! Path checkers side by side: the designs of the legacy aio checker, the real one, fio, the least
//! that a ring can do, and whatever else is brought along.
//!
//! This crate knows nothing of the engine that it measures: whoever runs a benchmark brings the
//! engine as [`Entrant`]s. Each contender lives in a process of its own, so that its CPU time is
//! all its own, and so that one that can never end (a teardown that waits for a silent device) is
//! left behind and reported instead of waited for. That process is the benchmark's own program,
//! which has to call [`child_main`] when it is run with [`Plan::child`], and
//! `pathpulse_faultdisk::serve_main` with [`Plan::rig`].

mod child;
mod clock;
mod contender;
mod contest;
mod deadline;
mod devices;
mod faults;
mod figures;
mod files;
mod fio;
mod full;
mod lean;
mod legacy;
mod plan;
mod plots;
mod progress;
mod remote;
mod report;
mod strace;
mod stuck;

pub use child::child_main;
pub use clock::read_clock;
pub use contender::{Contender, Entrant, Job, Tally};
pub use deadline::DeadlineRow;
pub use faults::FaultRow;
pub use figures::Spread;
pub use full::{CostPoint, Full};
pub use lean::Yardstick;
pub use plan::{Plan, Refusal, run};
pub use plots::plot;
pub use report::{Report, Row};

/// The name of fio, which is no [`Entrant`]: it is a program with a report of its own.
pub const FIO: &str = "fio-io_uring";

/// The contenders of this crate.
pub const ENTRANTS: [Entrant; 6] = [
    Entrant {
        name: "lean-io_uring",
        open: lean::open,
    },
    Entrant {
        name: "aio-per-path",
        open: legacy::per_path::open,
    },
    Entrant {
        name: "aio-group",
        open: legacy::group::open,
    },
    Entrant {
        name: "aio-thread",
        open: legacy::thread::open,
    },
    Entrant {
        name: "sync",
        open: legacy::sync::open,
    },
    Entrant {
        name: "libcheckdirectio",
        open: legacy::plugin::open,
    },
];
