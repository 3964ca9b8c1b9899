//! Simulated disks: what they do, and what the kernel says about them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use pathpulse_kernel_compat::{Answer, Errno, Reject, Stage};

use crate::health::{Activity, Counters, DeviceProbe, Layout, Leaf, LinkState};

pub(super) const BLOCK: u32 = 512;

/// What a simulated disk does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    Answers,
    /// Within the shortest timeout, but much more slowly than others.
    Sluggish,
    /// Within two seconds.
    Slow,
    Fails(Errno),
    Short,
    Hangs,
    /// Ends its reads after their deadline.
    Late,
    /// All tags taken; the flag says whether other I/O completes.
    Full(bool),
    Refused(Reject),
    Starved,
    Offline,
    Standby,
    /// Answers, while sysfs still says that the target is in standby.
    StaleStandby,
    /// A mirror whose disks are full; the flags say which legs complete what they hold. A read gets
    /// in now and then, and hangs if its leg does.
    Mirror(bool, bool),
    /// A linear map over a full disk; the flag says whether that completes anything.
    Linear(bool),
    /// Sleeps, and answers whoever wakes it.
    Asleep,
    /// A map that is suspended, over a disk that serves others.
    Suspended,
}

impl Way {
    pub(super) fn any(rng: &mut Rng) -> Way {
        match rng.u32(0..24) {
            0..4 => Way::Answers,
            4 => Way::Slow,
            5 => Way::Fails(Errno::EIO),
            6 => Way::Short,
            7 => Way::Hangs,
            8 | 9 => Way::Late,
            10 => Way::Full(true),
            11 => Way::Full(false),
            12 => Way::Refused(if rng.bool() {
                Reject::Full
            } else {
                Reject::NoMemory
            }),
            13 => Way::Starved,
            14 => Way::Offline,
            15 => Way::Standby,
            16 => Way::Fails(Errno::ENODEV),
            17 => Way::StaleStandby,
            18 => Way::Mirror(rng.bool(), rng.bool()),
            19 => Way::Linear(rng.bool()),
            20 => Way::Suspended,
            21 => Way::Asleep,
            _ => Way::Sluggish,
        }
    }

    /// What a read does that is made now. Times are whole milliseconds, so that several end at
    /// once.
    pub(super) fn answer(self, rng: &mut Rng) -> Answer {
        let quick = Duration::from_millis(rng.u64(1..3));
        let stage = if rng.bool() {
            Stage::Device
        } else {
            Stage::Submission
        };
        // As much as was asked for, whatever that is.
        let good = Ok(u32::MAX);
        match self {
            Way::Answers | Way::StaleStandby | Way::Asleep => Answer::After(quick, good, stage),
            Way::Offline => Answer::After(quick, Err(Errno::ENODEV), stage),
            Way::Standby => Answer::After(quick, Err(Errno::EIO), stage),
            Way::Sluggish => Answer::After(Duration::from_millis(rng.u64(50..80)), good, stage),
            Way::Slow => Answer::After(Duration::from_millis(rng.u64(1..1900)), good, stage),
            Way::Fails(errno) => Answer::After(quick, Err(errno), stage),
            Way::Short => Answer::After(quick, Ok(rng.u32(0..BLOCK)), stage),
            Way::Hangs => Answer::Never(stage),
            Way::Late => {
                let late = Duration::from_millis(rng.u64(2001..9000));
                let result = if rng.bool() { good } else { Err(Errno::EIO) };
                Answer::After(late, result, stage)
            }
            Way::Mirror(one, other) if rng.u32(0..4) == 0 => match [one, other][rng.usize(0..2)] {
                true => Answer::After(quick, good, stage),
                false => Answer::Never(stage),
            },
            Way::Full(_) | Way::Linear(_) | Way::Mirror(..) | Way::Suspended => {
                Answer::After(quick, Err(Errno::EAGAIN), stage)
            }
            Way::Refused(why) => Answer::Refuse(why),
            Way::Starved => Answer::NotStarted,
        }
    }
}

/// The truth about one disk, shared by the script and by the evidence.
#[derive(Debug)]
pub(super) struct Disk {
    way: Mutex<Way>,
    completed: AtomicU64,
}

impl Disk {
    pub(super) fn new(way: Way) -> Arc<Disk> {
        Arc::new(Disk {
            way: Mutex::new(way),
            completed: AtomicU64::new(0),
        })
    }

    pub(super) fn way(&self) -> Way {
        *self.way.lock().expect("not poisoned")
    }

    pub(super) fn set(&self, way: Way) {
        *self.way.lock().expect("not poisoned") = way;
    }
}

pub(super) struct DiskProbe(pub(super) Arc<Disk>);

impl DeviceProbe for DiskProbe {
    fn link(&self) -> LinkState {
        match self.0.way() {
            Way::Offline => LinkState::Offline,
            Way::Standby | Way::StaleStandby => LinkState::Standby,
            _ => LinkState::Running,
        }
    }

    fn activity(&self) -> Option<Activity> {
        let next = self.0.completed.fetch_add(1, Relaxed);
        let leg = |name: &str, completes| {
            Layout::Leaf(Leaf {
                name: name.to_owned(),
                counters: Some(Counters {
                    completed: if completes { next } else { 0 },
                    in_flight: 128,
                }),
            })
        };
        let layout = match self.0.way() {
            Way::Mirror(one, other) => Layout::Any(vec![leg("one", one), leg("other", other)]),
            Way::Full(completes) | Way::Linear(completes) => leg("leaf", completes),
            Way::Suspended => leg("leaf", true),
            _ => leg("leaf", false),
        };
        Some(Activity {
            suspended: self.0.way() == Way::Suspended,
            layout,
        })
    }

    fn is_redundant(&self) -> bool {
        matches!(self.0.way(), Way::Mirror(..))
    }

    fn is_asleep(&self) -> bool {
        self.0.way() == Way::Asleep
    }
}
