//! What the kernel knows of a device: opening it, its identity, its counters, where it is attached.
//!
//! Nothing here decides about a path: `health` does, from what is learned here.

mod backing;
mod driver;
mod facts;
mod identity;
mod info;
mod leaves;
mod name;
mod open;
mod opener;
mod storage;
mod sysfs;
mod throttle;
mod topology;

pub use backing::Unbacked;
pub(crate) use backing::bytes_on_device;
pub(crate) use driver::submission_of;
pub use facts::PathFacts;
pub(crate) use identity::{Comparison, Identity};
pub use info::DeviceInfo;
pub(crate) use leaves::{activity_of, is_asleep, is_redundant, is_stacked, numbers_of};
pub use name::{DisplayName, display_name, is_unprintable, parse_name};
pub(crate) use open::{Device, Geometry, file_alignment};
pub use open::{DeviceId, OpenError, OpenProblem};
pub use opener::look_up_all;
pub(crate) use opener::{Opens, open_all};
pub(crate) use storage::{
    dm_name, holders_of, map_of, names_in, storage_of, target_port_group, text_in,
};
pub(crate) use sysfs::{Sysfs, word};
pub(crate) use throttle::limits_reads;
pub use topology::Topology;
pub(crate) use topology::{hctl, transport};
