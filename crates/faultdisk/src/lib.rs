//! Real block devices that answer, delay, fail, hang, saturate or vanish on command.
//!
//! A rig is a FUSE file system with one file per disk, and above each file a loop device in direct
//! I/O mode. Reads of the loop device arrive as requests at the FUSE server, which answers them as
//! configured: at once, late, with an error, or not at all. To its reader, a hanging disk behaves
//! like a hanging LUN: it accepts a read that never ends.
//!
//! ```no_run
//! use pathpulse_faultdisk::{Behaviour, Release, Rig, Spec};
//! # fn main() -> std::io::Result<()> {
//! let rig = Rig::start(&Spec::loops(2))?;
//! rig.set(0, Behaviour::Hang)?;
//! // ... something reads rig.disk(0).path() ...
//! rig.wait_held(0, 1, std::time::Duration::from_secs(5))?;
//! rig.release(0, Release::Error(5))?;
//! # Ok(()) }
//! ```
//!
//! # Three kinds of processes
//! The rig never lives in the process that uses it, because a process can't end while one of its
//! threads waits for a hung read:
//! ```text
//! user (Rig) --stdin/stdout--> supervisor --stdin/stdout--> FUSE server
//!                                 \--stdin--> load processes (one per saturated disk)
//! ```
//! The supervisor does everything that touches the devices. The server only answers FUSE requests,
//! so it never waits for itself. When the user, the supervisor or the server dies, the others
//! release held requests, detach the loop devices, unmount and remove the folder (see `cleanup`).
//!
//! # Requirements
//! Root, `/dev/fuse` and `/dev/loop-control`; [`available`] reports what is missing. It does not
//! need `fusermount3`, `losetup` or udev.
#![deny(unsafe_code)]

mod available;
mod cleanup;
mod client;
mod load;
#[allow(unsafe_code)] // The loop driver is used through ioctls that have no safe wrapper.
mod loopdev;
mod plain;
mod rig;
mod role;
mod server;
mod spec;
mod supervisor;
mod wire;
mod zram;

pub use available::{available, report_skip};
pub use cleanup::sweep;
pub use plain::PlainDisks;
pub use rig::{Disk, Pids, Rig};
pub use role::serve_main;
pub use spec::{Behaviour, Counts, DiskSpec, FILL, Load, Release, Spec};
pub use zram::Zram;
