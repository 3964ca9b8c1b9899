//! What a check can ask the kernel about a device, and the answers.
//!
//! This file has the interface and plain data. `device/sysfs.rs` implements it with sysfs; none of
//! its files waits for the device.

/// State of the connection to a device, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing speaks against a read.
    Running,
    /// The kernel would refuse I/O: the device is offline, dead, or being removed.
    Offline,
    /// The target serves no reads on this path, by design.
    Standby,
}

/// Source of what the kernel reports about a path. Real paths read sysfs; simulations invent it.
pub(crate) trait DeviceProbe {
    /// State of the connection to the device, now.
    fn link(&self) -> LinkState;

    /// Counters of the device and of those below it, now; `None` if there are none.
    fn activity(&self) -> Option<Activity>;

    /// Whether one of several devices below may answer a read while another does not.
    fn is_redundant(&self) -> bool {
        false
    }

    /// Whether this process's cgroup limits reads of the device.
    fn is_throttled(&self) -> bool {
        false
    }

    /// Whether the device or one below it is suspended by the kernel, so that a read would wake it.
    fn is_asleep(&self) -> bool {
        false
    }

    /// Whether the device was removed: the kernel no longer lists it, or its size is 0.
    fn is_gone(&self) -> bool {
        false
    }

    /// Whether dirty pages may block reads at half of the device's places.
    fn may_be_dirty(&self) -> bool {
        true
    }
}

/// Reports nothing: for files that are not block devices.
pub(crate) struct NoProbe;

impl DeviceProbe for NoProbe {
    fn link(&self) -> LinkState {
        LinkState::Running
    }

    fn activity(&self) -> Option<Activity> {
        None
    }
}

/// Request counters of one disk, from its driver or from the block layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Requests completed so far, without failed ones where these are counted separately. Wraps.
    pub(crate) completed: u64,
    /// Requests that the device holds now.
    pub(crate) in_flight: u64,
}

/// One sample of a disk at the bottom of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Identifies the disk among those of its path.
    pub(crate) name: String,
    /// `None` if the disk has no counters.
    pub(crate) counters: Option<Counters>,
}

/// The devices below a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// None: it is a disk.
    Leaf(Leaf),
    /// Several; reads may need each of them.
    All(Vec<Layout>),
    /// Several; any one can answer a read.
    Any(Vec<Layout>),
}

/// One sample of a device and of those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// device-mapper holds back all I/O, here or at a level below.
    pub(crate) suspended: bool,
    pub(crate) layout: Layout,
}

impl Activity {
    /// A sample of a single disk.
    #[cfg(test)]
    pub(crate) fn of_disk(counters: Option<Counters>) -> Activity {
        let name = String::new();
        Activity {
            suspended: false,
            layout: Layout::Leaf(Leaf { name, counters }),
        }
    }

    /// Whether all disks report that they hold nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.layout.is_idle()
    }
}

impl Layout {
    fn is_idle(&self) -> bool {
        match self {
            Layout::Leaf(leaf) => leaf.counters.is_some_and(|counts| counts.in_flight == 0),
            Layout::All(below) | Layout::Any(below) => below.iter().all(Layout::is_idle),
        }
    }
}
