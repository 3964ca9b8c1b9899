//! What a disk looks like, how it can behave, and what it counts. Plain data, shared by all
//! processes of a rig, and sent as JSON (see `wire`).

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::invalid;

/// Every block of a disk is filled with this byte until it is written.
pub const FILL: u8 = 0xA5;

/// The disks of a rig.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// One entry per disk. A disk's index is its number in all calls.
    pub disks: Vec<DiskSpec>,
}

impl Spec {
    /// `count` disks with loop devices and default settings.
    #[must_use]
    pub fn loops(count: usize) -> Self {
        Self {
            disks: vec![DiskSpec::default(); count],
        }
    }

    /// `count` disks with loop devices, and another loop device above each of them: disk `count +
    /// i` lies on disk `i`.
    #[must_use]
    pub fn stacks(count: usize) -> Self {
        let mut spec = Self::loops(count);
        spec.disks.extend((0..count).map(|base| DiskSpec {
            on: Some(base),
            ..DiskSpec::default()
        }));
        spec
    }

    /// `count` bare FUSE files without loop devices. They support `O_DIRECT` but, unlike block
    /// devices, no `RWF_NOWAIT`.
    #[must_use]
    pub fn files(count: usize) -> Self {
        let file = DiskSpec {
            loop_device: false,
            ..DiskSpec::default()
        };
        Self {
            disks: vec![file; count],
        }
    }
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Size in bytes, a multiple of `logical_block`. 64 MiB by default. It uses no memory until it
    /// is written.
    pub size_bytes: u64,
    /// Logical block size of the loop device in bytes: 512 (the default), 1024, 2048 or 4096.
    pub logical_block: u32,
    /// Whether the disk is a loop device over its FUSE file (the default), or the bare file.
    pub loop_device: bool,
    /// The disk on whose loop device this one lies, instead of on its own FUSE file. It must be an
    /// earlier disk of the spec. Its behaviour also affects the requests of this disk. A stacked
    /// disk can be saturated, but accepts no other command. The disk below it cannot vanish.
    pub on: Option<usize>,
}

impl Default for DiskSpec {
    fn default() -> Self {
        Self {
            size_bytes: 64 << 20,
            logical_block: 512,
            loop_device: true,
            on: None,
        }
    }
}

/// What a disk does with reads and writes that arrive from now on. Requests that it already holds
/// stay held until [`Rig::release`](crate::Rig::release), whatever the new behaviour is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Answer at once.
    Answer,
    /// Answer after this time, each read on its own (reads don't queue behind each other).
    Delay(Duration),
    /// Fail with this errno (positive: 5 is EIO). A loop device passes on those that a disk can
    /// have, and replaces the others by EIO; see `README.md`.
    Fail(i32),
    /// Hold every read. It is in flight until it is released.
    Hang,
    /// Hold every read, and end the oldest ones at intervals: a slow disk with a queue.
    Drip {
        /// Time between two answers.
        every: Duration,
        /// How many reads are answered each time; 0 counts as 1.
        at_once: u32,
        /// Whether they are answered with data or fail.
        ends: Release,
    },
    /// Every `n`-th read from now on does `then`; the others are answered. An `n` of 0 counts as 1.
    EveryNth {
        /// The period, in reads.
        n: u64,
        /// What the n-th read does. A nested `EveryNth` counts as `Answer`.
        then: Box<Behaviour>,
    },
    /// Answer with at most this many bytes. A bare file gives the reader a short read. A loop
    /// device requests the rest again, and turns an answer of 0 bytes into EIO (see `README.md`).
    Short(u32),
}

impl Behaviour {
    /// Refuses errnos that FUSE would refuse: such a reply is never sent, and its read would hang.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self {
            Self::Fail(errno) => check_errno(*errno),
            Self::EveryNth { then, .. } => then.check(),
            Self::Drip { ends, .. } => ends.check(),
            _ => Ok(()),
        }
    }
}

/// How held reads end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// With their data, as if the disk had only been slow.
    Data,
    /// With this errno (positive).
    Error(i32),
}

impl Release {
    pub(crate) fn check(self) -> io::Result<()> {
        match self {
            Self::Data => Ok(()),
            Self::Error(errno) => check_errno(errno),
        }
    }
}

/// Errnos from 512 on are internal to the kernel.
fn check_errno(errno: i32) -> io::Result<()> {
    if (1..512).contains(&errno) {
        Ok(())
    } else {
        Err(invalid(format!("{errno} is not an errno")))
    }
}

/// The behaviour of a saturated disk, see [`Rig::saturate`](crate::Rig::saturate).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// It hangs: all tags are taken and nothing completes.
    Dead,
    /// It is busy: all tags are taken, and one read completes per this time on average. Reads
    /// complete in bursts of eight, because the kernel then gives freed tags to waiting reads.
    Busy {
        /// Mean time between two completions; 5 ms keeps the CPU cost of ten such disks small.
        answer_every: Duration,
    },
    /// It fails every read, and late: all tags are taken, and reads complete like those of a busy
    /// disk, but with an error. Its completion counters look like a busy disk's, because the kernel
    /// counts failed requests.
    Failing {
        /// Mean time between two failures. A read that gets a tag fails after about 128 times this.
        fail_every: Duration,
        /// The errno (positive), see [`Behaviour::Fail`].
        errno: i32,
    },
}

/// A disk's counters since the rig started. `reads + writes == answered + failed + held + delayed`
/// always holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Read requests that have arrived.
    pub reads: u64,
    /// Write requests that have arrived.
    pub writes: u64,
    /// Requests answered with data (including short and released ones).
    pub answered: u64,
    /// Requests answered with an error (including released ones).
    pub failed: u64,
    /// Requests held now.
    pub held: u64,
    /// Requests waiting now for the end of their [`Behaviour::Delay`].
    pub delayed: u64,
}
