//! The backends under test, and the limits that the kernel imposes on each of them.

use pathpulse_kernel_compat::{
    Aio, AioConfig, Backend, Isolating, KernelError, Preadv, PreadvConfig, Stage, Submission,
    Uring, UringConfig,
};

/// A backend under test.
pub(crate) struct TestedBackend {
    pub(crate) name: &'static str,
    pub(crate) open: Open,
    /// How its disks are attached.
    pub(crate) submission: Submission,
    pub(crate) limits: KernelLimits,
}

/// How it is opened.
pub(crate) enum Open {
    /// On this thread, with the kernel and real disks.
    Real(fn(&Sizes) -> Result<Box<dyn Backend>, KernelError>),
    /// With simulated disks on a virtual clock.
    Scripted,
}

/// The sizes that a scenario needs.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// Reads that the queue to the kernel can hold.
    pub(crate) queue: u32,
    /// Files that the backend's table can hold, if it has one.
    pub(crate) files: u32,
    /// The most threads for reads that block.
    pub(crate) threads: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            queue: 256,
            files: 1024,
            threads: 1024,
        }
    }
}

/// Differences that the kernel imposes. A scenario asserts each of them. The contract lists them
/// too.
pub(crate) struct KernelLimits {
    /// SIGKILL ends a process although it has reads at a hanging device.
    pub(crate) killable: bool,
    /// A read with nowait at a hanging device keeps a thread in D state.
    pub(crate) blocks_threads: bool,
    /// The reported stage of a read with nowait while its device hangs.
    pub(crate) stage_with_nowait: Stage,
    /// The reported stage of a read without nowait while its device hangs.
    pub(crate) stage_without_nowait: Stage,
}

/// No limits.
pub(crate) const NO_LIMITS: KernelLimits = KernelLimits {
    killable: true,
    blocks_threads: false,
    stage_with_nowait: Stage::Device,
    stage_without_nowait: Stage::Device,
};

/// Each read has a thread, which its driver may block.
const ISOLATED: KernelLimits = KernelLimits {
    killable: false,
    blocks_threads: true,
    stage_with_nowait: Stage::Submission,
    stage_without_nowait: Stage::Submission,
};

fn uring(sizes: &Sizes) -> UringConfig {
    UringConfig {
        entries: sizes.queue * 2,
        files: sizes.files,
        ..UringConfig::default()
    }
}

pub(crate) const BACKENDS: &[TestedBackend] = &[
    TestedBackend {
        name: "uring",
        open: Open::Real(|sizes| Ok(Box::new(Uring::open(uring(sizes))?))),
        submission: Submission::Prompt,
        limits: NO_LIMITS,
    },
    TestedBackend {
        name: "uring-unlinked",
        open: Open::Real(|sizes| {
            let config = UringConfig {
                linked_timeouts: false,
                ..uring(sizes)
            };
            Ok(Box::new(Uring::open(config)?))
        }),
        submission: Submission::Prompt,
        limits: NO_LIMITS,
    },
    TestedBackend {
        name: "aio",
        open: Open::Real(|sizes| {
            let config = AioConfig { paths: sizes.queue };
            Ok(Box::new(Aio::open(config)?))
        }),
        submission: Submission::Prompt,
        limits: KernelLimits {
            killable: false,
            ..NO_LIMITS
        },
    },
    TestedBackend {
        name: "sync",
        open: Open::Real(|sizes| {
            let config = PreadvConfig {
                threads: sizes.threads as u32,
            };
            Ok(Box::new(Preadv::open(config)?))
        }),
        submission: Submission::Prompt,
        limits: KernelLimits {
            killable: false,
            blocks_threads: true,
            stage_without_nowait: Stage::Submission,
            ..NO_LIMITS
        },
    },
    TestedBackend {
        name: "isolated-uring",
        open: Open::Real(|sizes| {
            let uring = Uring::open(uring(sizes))?;
            Ok(Box::new(Isolating::with_threads(uring, sizes.threads)))
        }),
        submission: Submission::MayBlock,
        limits: ISOLATED,
    },
    TestedBackend {
        name: "isolated-aio",
        open: Open::Real(|sizes| {
            let config = AioConfig { paths: sizes.queue };
            let aio = Aio::open(config)?;
            Ok(Box::new(Isolating::with_threads(aio, sizes.threads)))
        }),
        submission: Submission::MayBlock,
        limits: ISOLATED,
    },
    TestedBackend {
        name: "scripted",
        open: Open::Scripted,
        submission: Submission::Prompt,
        limits: NO_LIMITS,
    },
];

impl TestedBackend {
    /// Whether its reads go to the kernel.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self.open, Open::Real(_))
    }

    /// What this machine lacks for it.
    pub(crate) fn missing(&self) -> Option<String> {
        match self.open {
            Open::Scripted => None,
            Open::Real(open) => pathpulse_faultdisk::available()
                .err()
                .or_else(|| open(&Sizes::default()).err().map(|error| error.to_string())),
        }
    }
}
