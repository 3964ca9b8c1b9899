//! Verdicts from a device's counters, when it admits no read or does not answer one.
//!
//! No clock, and no I/O except what the [`DeviceProbe`] does when it is asked for counters.
//! `device/leaves.rs` and `device/sysfs.rs` implement that.
//!
//! # Which counters are used
//!
//! | device | what its own counters mean | counters used |
//! |---|---|---|
//! | SCSI disk | `stat` counts failed requests as completed | `stat` minus `device/ioerr_cnt` |
//! | SCSI disk, iostats off | nothing moves, in flight is 0 | `iodone_cnt`, `ioerr_cnt`, `iorequest_cnt` |
//! | other blk-mq disk (NVMe, virtio, nbd, loop) | failed requests count as completed | `stat`; a loop device completes what its file has answered |
//! | other blk-mq disk, iostats off | nothing moves, in flight is 0 | none |
//! | partition | its own share of the disk | those of its disk: the tags belong to the disk |
//! | NVMe head (native multipath) | older kernels count nothing | its paths, of which any one is enough |
//! | dm, md, bcache | **refused reads count as completed** (`dm_end_io_acct`, `md_account_bio`) | the leaf disks below it (`slaves`, recursively); `dm/suspended` of each level |
//! | dm, md without anything below | as above | none |
//! | file in a file system | none | none |
//!
//! A stack is *redundant* if any one of the devices below can answer: md levels 1, 4, 5, 6 and 10,
//! dm-multipath maps, LVM raid and mirror volumes, NVMe heads. It makes progress while one of them
//! does. Any other stack makes progress while a device below completes requests and no device that
//! holds requests has been without progress for the whole timeout.
//!
//! On some kernels, blk-mq counts only what was handed to the driver as in flight. A driver that
//! hands requests back (a busy host, a blocked port) then holds all tags with 0 in flight. So an
//! idle device proves nothing by itself.
//!
//! # No read got in during the whole timeout (`EAGAIN` at its place and at others)
//!
//! | suspended | makes progress | in flight | dirty pages may be the cause | verdict |
//! |---|---|---|---|---|
//! | yes | any | any | any | `Saturated`: suspended |
//! | no | yes | any | any | `Busy` |
//! | no | no | 0 | yes | `Unknown`: would block |
//! | no | no | 0 | no | `Saturated`: no progress |
//! | no | no | some, or unknown | any | `Saturated`: no progress |
//!
//! Dirty pages may be the cause if the whole system has enough of them to cover half of the device:
//! otherwise reads at random places would not all meet one. A device that held requests and
//! completed none for a whole timeout is `Saturated` at once, not only at the deadline.
//!
//! # A read was not answered
//!
//! A read without `RWF_NOWAIT` that is blocked in its submission counts as not admitted. As far as
//! anyone can tell it waits for a tag, as all reads of the device do (dm-crypt on a busy disk).
//!
//! | not admitted at first, and progress | redundant, and progress | a limit of our cgroup | requests in flight | verdict |
//! |---|---|---|---|---|
//! | yes | any | any | any | `Busy` |
//! | no | yes | any | any | `Busy` |
//! | no | no | yes | none, or progress, or only one sample | `Unknown`: throttled |
//! | no | no | yes | some, and no progress | `TimedOut` |
//! | no | no | no | any | `TimedOut` |
//!
//! A limit of a cgroup (`io.max`, `blkio.throttle`) holds a read above the device, while the
//! device's counters advance or show nothing in flight. That is no fault of the device.

use std::time::Duration;

use pathpulse_kernel_compat::{Mono, Stage};

use crate::health::{Backpressure, DeviceProbe, History, Nowait, UnknownReason, Verdict};

/// The verdict of a check in which no read got in during the whole timeout. See the first table of
/// the module.
pub(crate) fn verdict_if_not_admitted(
    history: &History,
    may_be_dirty: impl FnOnce() -> bool,
) -> Verdict {
    if history.suspended {
        Verdict::Saturated(Backpressure::Suspended)
    } else if history.progresses {
        Verdict::Busy
    } else if history.samples > 0 && history.is_idle && may_be_dirty() {
        let why = UnknownReason::WouldBlock;
        Verdict::Unknown { why }
    } else {
        Verdict::Saturated(Backpressure::NoProgress)
    }
}

/// The circumstances of a read that the device does not answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnansweredRead {
    /// Where the read is.
    pub(crate) stage: Stage,
    /// The read was not admitted at first, and so had less than the whole time, or it still is not.
    pub(crate) not_admitted: bool,
    /// [`DeviceProbe::is_redundant`].
    pub(crate) is_redundant: bool,
    /// [`DeviceProbe::is_throttled`].
    pub(crate) is_throttled: bool,
}

impl UnansweredRead {
    /// Whether the device's counters can change the verdict.
    pub(crate) fn depends_on_counters(&self) -> bool {
        self.not_admitted || self.is_redundant || self.is_throttled
    }

    /// The verdict. See the second table of the module.
    pub(crate) fn verdict(&self, history: &History) -> Verdict {
        let stage = self.stage;
        if history.progresses && (self.not_admitted || self.is_redundant) {
            return Verdict::Busy;
        }
        let no_stall_seen = history.is_idle || history.progresses || history.samples < 2;
        if self.is_throttled && no_stall_seen {
            let why = UnknownReason::Throttled;
            return Verdict::Unknown { why };
        }
        Verdict::TimedOut { stage }
    }
}

/// Whether a read may not have reached its device because all tags are taken. Without `RWF_NOWAIT`
/// it waits for a tag, and nothing distinguishes it from a read that a driver holds.
pub(crate) fn waits_for_tag(nowait: Nowait, stage: Stage) -> bool {
    nowait == Nowait::Unsupported && stage == Stage::Submission
}

/// The verdict on a read that has no answer at `at`, in a check that began at `begun`. Samples the
/// device's counters where they can matter.
pub(crate) fn verdict_if_unanswered(
    stage: Stage,
    not_admitted: bool,
    history: &mut History,
    probe: &dyn DeviceProbe,
    (begun, at, timeout): (Mono, Mono, Duration),
) -> Verdict {
    let read = UnansweredRead {
        stage,
        not_admitted,
        is_redundant: probe.is_redundant(),
        is_throttled: probe.is_throttled(),
    };
    if read.depends_on_counters()
        && let Some(activity) = probe.activity()
    {
        history.observe(&activity, begun, at, timeout);
    }
    read.verdict(history)
}

#[cfg(test)]
mod tests;
