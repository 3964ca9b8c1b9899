//! Tells which storage paths of a Linux host answer, how fast, and since when.
//!
//! A path is a block device (any file that takes `O_DIRECT` works). Each is checked again and again
//! by reading one block, with a deadline; what the checks show adds up to a state. Nothing that a
//! device does, or fails to do, stops the word about the other devices, or stops a shutdown.
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
//! // Wait for what happens...
//! match events.next_within(Duration::from_secs(5)) {
//!     Next::Event(event) => println!("{}: {} -> {}", event.path.name().display(), event.from, event.to),
//!     Next::Timeout => println!("nothing happened"),
//!     Next::Ended => println!("the monitor was shut down"),
//! }
//! // ...or look at any time; this takes no lock that a worker could hold.
//! let status = monitor.path(disk).expect("it is watched");
//! if status.state == State::Up && !status.overdue {
//!     println!("answers in {:?}, known {:?} ago", status.latency_us, status.verdict_age);
//! }
//!
//! let left = monitor.shutdown(Duration::from_secs(1));
//! assert_eq!(left.held_reads, 0, "reads that a silent device still holds");
//! # Ok(())
//! # }
//! ```
//!
//! To check once and be done there is [`check_once`]:
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
//! Nothing here is global but the number of the next [`PathId`]: monitors don't know of each other. Log lines are emitted through
//! `tracing`, once per change of the engine itself (a backend that breaks), never per check; what
//! happens to paths is told by [`EventStream`]s.
//!
//! The command-line tool and the daemon are behind the feature `daemon`, which is on by default;
//! without default features this is the library alone.

#![forbid(unsafe_code)]

mod backing;
mod check;
mod command;
mod config;
mod departed;
mod device;
mod device_info;
mod driver;
mod event;
mod evidence;
mod facts;
mod fault;
mod group;
mod health;
mod identity;
mod latency;
mod monitor;
mod name;
mod once;
mod opener;
mod path;
mod phases;
mod progress;
mod registry;
mod schedule;
mod settings;
mod siblings;
mod stall;
mod status;
mod storage;
mod sweep;
mod sysfs;
mod topology;
mod verdict;
mod watched;
mod window;
mod worker;

pub use backing::Unbacked;
pub use config::{BackendInfo, Config, ShutdownReport, StartError};
pub use departed::{Departed, Released};
pub use device::{DeviceId, OpenError, OpenProblem};
pub use device_info::DeviceInfo;
pub use event::{Backlog, Event, EventStream, Next};
pub use facts::PathFacts;
pub use fault::Fault;
pub use group::GroupStatus;
pub use health::{Cause, Rules, State};
pub use latency::LatencyHistogram;
pub use monitor::Monitor;
pub use name::{DisplayName, display_name, is_unprintable, parse_name};
pub use once::{CheckReport, Checked, check_once};
pub use opener::look_up_all;
pub use path::{PathId, PathInfo};
pub use pathpulse_kernel_compat::{
    BackendKind, Choice, Errno, KernelError, RingFeatures, Stage, Stats, Unavailable,
};
pub use progress::{Lag, Outcomes, WorkerStatus};
pub use settings::{PathSpec, Place, Region, Settings, Sleeping};
pub use status::{Counts, OVERDUE_GRACE, PathStatus};
pub use sweep::{Sweep, SweepError, Swept};
pub use topology::Topology;
pub use verdict::{Backpressure, Verdict, VerdictKind, Why};
pub use window::Latency;
