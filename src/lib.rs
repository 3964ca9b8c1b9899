//! Tells which storage paths of a Linux host answer, how fast, and since when.
//!
//! A path is a block device; any file that supports `O_DIRECT` works, too. A check reads one block
//! of a path, with a deadline, again and again. The results of the checks add up to a state.
//! Nothing that a device does, or fails to do, delays the status of other devices or a shutdown.
//!
//! ```no_run
//! use std::time::Duration;
//! use pathpulse::{Config, Monitor, Next, State};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let monitor = Monitor::start(Config::default())?;
//! let events = monitor.events(1024);
//! let disk = monitor.add("/dev/sda")?;
//!
//! // Wait for an event...
//! match events.next_within(Duration::from_secs(5)) {
//!     Next::Event(event) => {
//!         println!("{}: {} -> {}", event.path.name().display(), event.from, event.to);
//!     }
//!     Next::Timeout => println!("no event"),
//!     Next::Ended => println!("the monitor was shut down"),
//! }
//! // ...or read the status at any time; this takes no lock that a worker could hold.
//! let status = monitor.path(disk).expect("the path is watched");
//! if status.state == State::Up && !status.overdue {
//!     println!("answers in {:?}, known {:?} ago", status.latency_us, status.verdict_age);
//! }
//!
//! let left = monitor.shutdown(Duration::from_secs(1));
//! assert_eq!(left.held_reads, 0, "reads that the kernel still holds");
//! # Ok(())
//! # }
//! ```
//!
//! [`check_once()`] checks paths a single time:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let paths = ["/dev/sda".into(), "/dev/sdb".into()];
//! let checked = pathpulse::check_once(&paths, &pathpulse::Config::default())?;
//! for report in checked.reports {
//!     println!("{}: {:?}", report.path.display(), report.verdict);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What threads can't promise
//!
//! Workers are threads of the program by default. A driver may put a thread that submits a read to
//! sleep, and a process ends only when all of its threads do: with a read of libaio or of a thread
//! at a silent device, the program can't end, not even by SIGKILL. With [`Isolation::Processes`],
//! other processes open and read the devices, and they are replaced when they hang.
//!
//! The only global state is the number of the next [`PathId`]; monitors are independent of each
//! other. Log lines go to `tracing`. They report changes of the engine itself (a backend that
//! breaks), never single checks. [`EventStream`]s report what happens to paths.
//!
//! The command-line tool and the daemon are in the package `pathpulse-cli`.
//!
//! # Where things are
//!
//! `monitor`, `check_once` and `sweep` are the handles that programs use; `config` and `settings`
//! are their parameters. A handle opens devices (`device`) and passes them to a worker (`worker`),
//! which checks them on its schedule (`schedule`) and decides about them (`health`). The worker
//! writes the results to the shared status (`status`), from which the handles read. If workers are
//! processes, `reader` is between the handle and the worker.

#![forbid(unsafe_code)]

mod check_once;
mod config;
mod device;
mod health;
mod monitor;
mod reader;
mod schedule;
mod settings;
mod status;
mod sweep;
mod worker;

pub use check_once::{CheckReport, Checked, check_once};
pub use config::{BackendInfo, Config, Isolation, ShutdownReport, StartError};
pub use device::DeviceInfo;
pub use device::PathFacts;
pub use device::Topology;
pub use device::Unbacked;
#[doc(hidden)]
pub use device::query_all as look_up_all;
pub use device::query_all;
pub use device::{DeviceId, OpenError, OpenProblem};
pub use device::{DisplayName, display_name, is_unprintable, parse_name};
pub use health::Fault;
pub use health::{Backpressure, UnknownReason, Verdict, VerdictKind};
pub use health::{Cause, Rules, State};
pub use monitor::Monitor;
pub use pathpulse_kernel_compat::{
    BackendKind, Choice, Errno, KernelError, RingFeatures, Stage, Stats, Unavailable,
};
pub use reader::run_reader;
pub use settings::{PathSpec, Place, Region, Settings, Sleeping};
pub use status::GroupStatus;
pub use status::Latency;
pub use status::LatencyHistogram;
pub use status::{Backlog, Event, EventStream, Next};
pub use status::{Counts, OVERDUE_GRACE, PathStatus};
pub use status::{Lag, Outcomes, WorkerStatus};
pub use status::{PathId, PathInfo};
pub use status::{Released, RemovedPath};
pub use sweep::{Sweep, SweepError, Swept};

/// The former name of [`RemovedPath`].
#[doc(hidden)]
pub type Departed = RemovedPath;
/// The former name of [`UnknownReason`].
#[doc(hidden)]
pub type Why = UnknownReason;
