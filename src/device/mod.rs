//! What the kernel knows about a device: opening it, its identity, its counters, where it is
//! attached.
//!
//! The data comes from open(2), statx(2), sysfs, udev's database and this process's cgroup. Opening
//! a path may block, so it happens on threads of its own (`opener.rs`, `open.rs`). Reading sysfs
//! does not wait for the device, and workers do it (`sysfs.rs`, `leaves.rs`). Nothing here decides
//! about a path: `health` does, with the facts from here.

mod backing;
mod driver;
mod facts;
mod geometry;
mod id;
mod identity;
mod info;
mod leaves;
mod name;
mod open;
mod open_error;
mod opener;
mod storage;
mod sysfs;
mod throttle;
mod topology;

pub use backing::Unbacked;
pub(crate) use backing::bytes_on_device;
pub(crate) use driver::submission_of;
pub use facts::PathFacts;
pub(crate) use geometry::Geometry;
pub use id::DeviceId;
pub(crate) use identity::{Comparison, Identity};
pub use info::DeviceInfo;
pub(crate) use leaves::{activity_of, is_asleep, is_redundant, is_stacked, numbers_of};
pub use name::{DisplayName, display_name, is_unprintable, parse_name};
pub(crate) use open::{Device, OpenedDevice, file_alignment};
pub use open_error::{OpenError, OpenProblem};
pub use opener::query_all;
pub(crate) use opener::{PendingOpens, open_all};
pub(crate) use storage::{
    dm_name, holders_of, list_names, map_of, read_text, storage_of, target_port_group,
};
pub(crate) use sysfs::{Sysfs, read_attr};
pub(crate) use throttle::limits_reads;
pub use topology::Topology;
pub(crate) use topology::{hctl, transport};
