//! What the kernel's counters say of a device that lets no read in, or does not answer one (pure: no
//! clock, no I/O). What is read from sysfs and how is in `device/leaves.rs` and `device/sysfs.rs`.
//!
//! # Where evidence comes from
//!
//! | device | what its own counters mean | evidence |
//! |---|---|---|
//! | SCSI disk | `stat` counts failed requests as completed | `stat` less `device/ioerr_cnt` |
//! | SCSI disk, iostats off | nothing moves, in flight is 0 | `iodone_cnt`, `ioerr_cnt`, `iorequest_cnt` |
//! | other blk-mq disk (NVMe, virtio, nbd, loop) | failed requests count as completed | `stat`; a loop device completes what its file answered |
//! | other blk-mq disk, iostats off | nothing moves, in flight is 0 | none |
//! | partition | its own share of the disk | those of its disk: the tags are the disk's |
//! | NVMe head (native multipath) | older kernels count nothing | its paths, of which any one will do |
//! | dm, md, bcache | **refused reads count as completed** (`dm_end_io_acct`, `md_account_bio`) | the leaf disks below it (`slaves`, recursively); `dm/suspended` of each level |
//! | dm, md without anything below | as above | none |
//! | file in a file system | none | none |
//!
//! A stack is *redundant* where any one of the devices below can answer (md levels 1, 4, 5, 6, 10, maps
//! of dm-multipath, LVM's raid and mirror volumes, NVMe heads): it progresses while one of them does.
//! Any other stack progresses while something below completes requests and nothing that holds requests
//! stands still for the whole timeout.
//!
//! In flight means, for blk-mq on some kernels, what was handed to the driver: a driver that hands
//! requests back (a host that is busy, a port that is blocked) holds all tags with 0 in flight. So an idle
//! device proves nothing by itself.
//!
//! # A read that never got in during the whole timeout (`EAGAIN` at its place and at others)
//!
//! | suspended | progresses | in flight | dirty pages could be why | verdict |
//! |---|---|---|---|---|
//! | yes | any | any | any | `Saturated`: suspended |
//! | no | yes | any | any | `Busy` |
//! | no | no | 0 | yes | `Unknown`: would block |
//! | no | no | 0 | no | `Saturated`: no progress |
//! | no | no | some, or not known | any | `Saturated`: no progress |
//!
//! Dirty pages could be why if the whole system has so many that half of the device's places could be
//! covered by them: reads at random places would not all meet one otherwise. Where the table says
//! `Saturated`, a device that was seen to hold requests and to complete none for a whole timeout is so
//! at once, not at the deadline.
//!
//! # A read that was not answered
//!
//! One that was made without `RWF_NOWAIT` and is blocked in its submission counts as kept out: as far as
//! anybody can tell it waits for a tag, as everybody's reads do (dm-crypt on a busy disk).
//!
//! | kept out, and progresses | redundant, and progresses | a limit of our cgroup | what it holds | verdict |
//! |---|---|---|---|---|
//! | yes | any | any | any | `Busy` |
//! | no | yes | any | any | `Busy` |
//! | no | no | yes | nothing, or progresses, or seen only once | `Unknown`: throttled |
//! | no | no | yes | requests, and completes none | `TimedOut` |
//! | no | no | no | any | `TimedOut` |
//!
//! A cgroup's limit (`io.max`, `blkio.throttle`) holds a read above the device, whose counters go on
//! with nothing in flight: that is not the device's fault.

use std::time::Duration;

use pathpulse_kernel_compat::{Errno, Mono, Stage};

use crate::health::{Backpressure, UnknownReason, Verdict};

/// What the kernel says about the way to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing against a read.
    Running,
    /// I/O would be refused: the device is offline, dead, or on its way out.
    Offline,
    /// The target serves no reads on this path, by design.
    Standby,
}

/// Where a check learns what the kernel says about a path. Real paths have sysfs; simulations make it up.
pub(crate) trait DeviceProbe {
    /// The state of the way to the device, now.
    fn link(&self) -> LinkState;

    /// What the device and those below it do, now; `None` if nothing is known.
    fn activity(&self) -> Option<Activity>;

    /// Whether one of several devices below may answer a read while another does not.
    fn is_redundant(&self) -> bool {
        false
    }

    /// Whether this process's cgroup has a limit on reads of the device.
    fn is_throttled(&self) -> bool {
        false
    }

    /// Whether the device, or one of those below it, sleeps: a read would wake it.
    fn is_asleep(&self) -> bool {
        false
    }

    /// Whether the device was taken away: the kernel lists it no more, or it has lost its size.
    fn is_gone(&self) -> bool {
        false
    }

    /// Whether dirty pages could keep reads out of half of the device's places.
    fn may_be_dirty(&self) -> bool {
        true
    }
}

/// No evidence at all: for files that are not block devices.
pub(crate) struct NoProbe;

impl DeviceProbe for NoProbe {
    fn link(&self) -> LinkState {
        LinkState::Running
    }

    fn activity(&self) -> Option<Activity> {
        None
    }
}

/// Requests of one disk, as its driver or the block layer counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Completed since some moment; without the failed ones, where these are told apart. Wraps.
    pub(crate) completed: u64,
    /// Held by the device now.
    pub(crate) in_flight: u64,
}

/// One look at a disk at the bottom of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Which one it is of those of its path.
    pub(crate) name: String,
    /// `None` if it keeps none.
    pub(crate) counters: Option<Counters>,
}

/// What a device lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On nothing: it is a disk.
    Leaf(Leaf),
    /// On devices of which each may be needed.
    All(Vec<Layout>),
    /// On devices of which any one will do.
    Any(Vec<Layout>),
}

/// One look at a device and those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// device-mapper holds back all I/O, here or at a level below.
    pub(crate) suspended: bool,
    pub(crate) layout: Layout,
}

impl Activity {
    /// Of a disk with these counters.
    #[cfg(test)]
    pub(crate) fn of_disk(counters: Option<Counters>) -> Activity {
        let name = String::new();
        Activity {
            suspended: false,
            layout: Layout::Leaf(Leaf { name, counters }),
        }
    }

    /// Whether all disks say that they hold nothing.
    fn is_idle(&self) -> bool {
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

/// What is remembered of one disk between looks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Past {
    name: String,
    completed: u64,
    /// It held requests when it was looked at last.
    holds: bool,
    /// It completes nothing since then, as far as is known.
    since: Mono,
    /// It was looked at in this check.
    seen: bool,
    /// When it was last seen to have completed something, by this check.
    moved_at: Option<Mono>,
}

/// What a device was seen to do, look after look. The next check goes by it, too: a device that dies
/// while a check finds it busy has had its time when the timeout has passed since its last completion,
/// not only when the next check has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    disks: Vec<Past>,
    suspended: bool,
    progresses: bool,
    is_idle: bool,
    looks: u32,
    still_since: Option<Mono>,
    /// What this check's own read of one block ended in: that block may be the only one that is bad.
    pub(crate) block_error: Option<Errno>,
}

impl History {
    /// Another check begins. What was idle is forgotten: it has its whole time again.
    pub(crate) fn begin_check(&mut self) {
        self.disks.retain(|disk| disk.holds);
        for disk in &mut self.disks {
            (disk.seen, disk.moved_at) = (false, None);
        }
        *self = History {
            disks: std::mem::take(&mut self.disks),
            still_since: self.still_since,
            ..History::default()
        };
    }

    /// Whether this check saw anything that the next one is to remember. One with the same read, which
    /// is stuck, goes on where this one stopped, and a busy disk may hold nothing at the moment.
    pub(crate) fn is_telling(&self, is_stuck: bool) -> bool {
        self.looks > 0 && (is_stuck || self.disks.iter().any(|disk| disk.holds))
    }

    /// Takes a look in, in a check that began at `begun` and may take `timeout`.
    pub(crate) fn observe(&mut self, now: &Activity, begun: Mono, at: Mono, timeout: Duration) {
        self.note(&now.layout, begun, at);
        self.looks += 1;
        self.suspended = now.suspended;
        self.is_idle = now.is_idle();
        self.still_since = self.stillness(&now.layout);
        self.progresses = self.progress(&now.layout, at, timeout);
        debug_assert!(self.disks.iter().all(|disk| disk.since <= at));
    }

    /// What the device did not do before that moment is not held against it.
    pub(crate) fn forgive(&mut self, until: Mono) {
        for disk in &mut self.disks {
            disk.since = disk.since.max(until);
        }
        self.still_since = self.still_since.map(|since| since.max(until));
    }

    /// Since when it holds requests and completes none, if so.
    pub(crate) fn still_since(&self) -> Option<Mono> {
        self.still_since
    }

    fn note(&mut self, layout: &Layout, begun: Mono, at: Mono) {
        let leaf = match layout {
            Layout::Leaf(leaf) => leaf,
            Layout::All(below) | Layout::Any(below) => {
                return below.iter().for_each(|one| self.note(one, begun, at));
            }
        };
        let Some(Counters {
            completed,
            in_flight,
        }) = leaf.counters
        else {
            return;
        };
        let holds = in_flight > 0;
        let Some(disk) = self.disks.iter_mut().find(|disk| disk.name == leaf.name) else {
            self.disks.push(Past {
                name: leaf.name.clone(),
                completed,
                holds,
                // What it did before this check nobody knows: all of this check's time is its chance.
                since: begun,
                seen: true,
                moved_at: None,
            });
            return;
        };
        // Failures are taken off, so the count may go back: only what is more than ever is progress.
        let moved = completed.wrapping_sub(disk.completed).cast_signed() > 0;
        if moved {
            disk.completed = completed;
            disk.since = if disk.seen { at } else { begun };
            disk.moved_at = disk.seen.then_some(at);
        } else if holds && !disk.holds {
            // It was given something to do since the last look.
            disk.since = at;
        }
        (disk.holds, disk.seen) = (holds, true);
    }

    fn past(&self, leaf: &Leaf) -> Option<&Past> {
        self.disks.iter().find(|disk| disk.name == leaf.name)
    }

    fn stillness(&self, layout: &Layout) -> Option<Mono> {
        match layout {
            Layout::Leaf(leaf) => {
                let holding = self.past(leaf).filter(|disk| disk.holds);
                holding.map(|disk| disk.since)
            }
            Layout::All(below) => below.iter().filter_map(|one| self.stillness(one)).min(),
            // One that completed all that it held will do as well as any.
            Layout::Any(below) if below.iter().any(|one| self.has_finished(one)) => None,
            Layout::Any(below) => below.iter().filter_map(|one| self.stillness(one)).max(),
        }
    }

    fn has_finished(&self, layout: &Layout) -> bool {
        match layout {
            Layout::Leaf(leaf) => self
                .past(leaf)
                .is_some_and(|disk| disk.moved_at.is_some() && !disk.holds),
            Layout::All(below) => below.iter().all(|one| self.has_finished(one)),
            Layout::Any(below) => below.iter().any(|one| self.has_finished(one)),
        }
    }

    fn progress(&self, layout: &Layout, at: Mono, timeout: Duration) -> bool {
        match layout {
            Layout::Leaf(leaf) => {
                let moved_at = self.past(leaf).and_then(|disk| disk.moved_at);
                moved_at.is_some_and(|moved| at.since(moved) < timeout)
            }
            Layout::All(below) => {
                let stands_still = |since| at.since(since) >= timeout;
                below.iter().any(|one| self.progress(one, at, timeout))
                    && !below
                        .iter()
                        .any(|one| self.stillness(one).is_some_and(stands_still))
            }
            Layout::Any(below) => below.iter().any(|one| self.progress(one, at, timeout)),
        }
    }
}

/// The verdict of a check of which no read got in for the whole timeout. See the module's table.
pub(crate) fn when_kept_out(history: &History, may_be_dirty: impl FnOnce() -> bool) -> Verdict {
    if history.suspended {
        Verdict::Saturated(Backpressure::Suspended)
    } else if history.progresses {
        Verdict::Busy
    } else if history.looks > 0 && history.is_idle && may_be_dirty() {
        let why = UnknownReason::WouldBlock;
        Verdict::Unknown { why }
    } else {
        Verdict::Saturated(Backpressure::NoProgress)
    }
}

/// What speaks for a device that does not answer a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// Where the read is.
    pub(crate) stage: Stage,
    /// The read was kept out first, and so had less than the whole time, or still is.
    pub(crate) was_kept_out: bool,
    /// [`DeviceProbe::is_redundant`].
    pub(crate) is_redundant: bool,
    /// [`DeviceProbe::is_throttled`].
    pub(crate) is_throttled: bool,
}

impl Silence {
    /// Whether the device's counters could speak for it at all.
    pub(crate) fn is_arguable(&self) -> bool {
        self.was_kept_out || self.is_redundant || self.is_throttled
    }

    /// The verdict. See the module's table.
    pub(crate) fn verdict(&self, history: &History) -> Verdict {
        let stage = self.stage;
        if history.progresses && (self.was_kept_out || self.is_redundant) {
            return Verdict::Busy;
        }
        let innocent = history.is_idle || history.progresses || history.looks < 2;
        if self.is_throttled && innocent {
            let why = UnknownReason::Throttled;
            return Verdict::Unknown { why };
        }
        Verdict::TimedOut { stage }
    }
}

#[cfg(test)]
mod tests;
