//! Real block devices that answer, delay, fail, hang, saturate or vanish on command.
//!
//! A rig is a FUSE file system with one file per disk and, above each file, a loop device in direct I/O mode. Reads of
//! the loop device arrive as requests at the FUSE server, which answers them as it was told to: at once, late, with an
//! error, or not at all. To its reader a hanging disk is what a hanging LUN is: a read that was accepted and never ends.
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
//! The rig never lives in the process that uses it, since a process whose thread waits for a hung read cannot end:
//! ```text
//! user (Rig) --stdin/stdout--> janitor --stdin/stdout--> FUSE server
//!                                 \--stdin--> load processes (one per saturated disk)
//! ```
//! The janitor does everything that touches the devices; the server does nothing but answer FUSE requests, so it can
//! never wait for itself. When any one of user, janitor and server dies, the others release what is held, detach the
//! loop devices, unmount and remove the folder (see `cleanup`).
//!
//! # Needs
//! Root, `/dev/fuse`, `/dev/loop-control`; [`available`] says what is missing. No `fusermount3`, no `losetup`, no udev.
#![deny(unsafe_code)]

mod available;
mod cleanup;
mod janitor;
mod link;
mod load;
#[allow(unsafe_code)] // the loop driver is reached by ioctls, for which there is no safe wrapper
mod loopdev;
mod plain;
mod rig;
mod role;
mod server;
mod spec;
mod wire;
mod zram;

pub use available::{available, report_skip};
pub use cleanup::sweep;
pub use plain::PlainDisks;
pub use rig::{Disk, Pids, Rig};
pub use role::serve_main;
pub use spec::{Behaviour, Counts, DiskSpec, FILL, Load, Release, Spec};
pub use zram::Zram;
