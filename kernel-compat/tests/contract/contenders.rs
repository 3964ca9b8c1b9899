//! The backends under test, and what the kernel forces on each of them.

use pathpulse_kernel_compat::{
    Aio, AioConfig, Backend, Isolating, KernelError, Preadv, PreadvConfig, Stage, Submission,
    Uring, UringConfig,
};

/// A backend under test.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) open: Open,
    /// What its disks are taken to do to who submits.
    pub(crate) submission: Submission,
    pub(crate) law: Law,
}

/// How it is opened.
pub(crate) enum Open {
    /// On this thread, over the kernel, with real disks.
    Real(fn(&Tuning) -> Result<Box<dyn Backend>, KernelError>),
    /// With made up disks on a virtual clock.
    Scripted,
}

/// The sizes that a scenario asks for.
#[derive(Clone, Copy)]
pub(crate) struct Tuning {
    /// Reads that the queue to the kernel can take at once.
    pub(crate) queue: u32,
    /// Files that the backend can keep in a table, if it has one.
    pub(crate) files: u32,
    /// Threads that there may be for reads that block.
    pub(crate) threads: usize,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            queue: 256,
            files: 1024,
            threads: 1024,
        }
    }
}

/// Differences that the kernel forces, each asserted by a scenario. The contract's text has them too.
pub(crate) struct Law {
    /// SIGKILL ends a process although it has reads at a hanging device.
    pub(crate) killable: bool,
    /// A read with nowait at a hanging device keeps a thread in D state.
    pub(crate) blocks_threads: bool,
    /// Where a read with nowait is said to be while its device hangs.
    pub(crate) stage_with_nowait: Stage,
    /// Where a read without nowait is said to be while its device hangs.
    pub(crate) stage_without_nowait: Stage,
}

/// Nothing is forced.
pub(crate) const FREE: Law = Law {
    killable: true,
    blocks_threads: false,
    stage_with_nowait: Stage::Device,
    stage_without_nowait: Stage::Device,
};

/// Each read has a thread, which its driver may hold.
const ISOLATED: Law = Law {
    killable: false,
    blocks_threads: true,
    stage_with_nowait: Stage::Submission,
    stage_without_nowait: Stage::Submission,
};

fn uring(tuning: &Tuning) -> UringConfig {
    UringConfig {
        entries: tuning.queue * 2,
        files: tuning.files,
        ..UringConfig::default()
    }
}

pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        name: "uring",
        open: Open::Real(|tuning| Ok(Box::new(Uring::open(uring(tuning))?))),
        submission: Submission::Prompt,
        law: FREE,
    },
    Contender {
        name: "uring-unlinked",
        open: Open::Real(|tuning| {
            let config = UringConfig {
                linked_timeouts: false,
                ..uring(tuning)
            };
            Ok(Box::new(Uring::open(config)?))
        }),
        submission: Submission::Prompt,
        law: FREE,
    },
    Contender {
        name: "aio",
        open: Open::Real(|tuning| {
            let config = AioConfig {
                paths: tuning.queue,
            };
            Ok(Box::new(Aio::open(config)?))
        }),
        submission: Submission::Prompt,
        law: Law {
            killable: false,
            ..FREE
        },
    },
    Contender {
        name: "sync",
        open: Open::Real(|tuning| {
            let config = PreadvConfig {
                threads: tuning.threads as u32,
            };
            Ok(Box::new(Preadv::open(config)?))
        }),
        submission: Submission::Prompt,
        law: Law {
            killable: false,
            blocks_threads: true,
            stage_without_nowait: Stage::Submission,
            ..FREE
        },
    },
    Contender {
        name: "isolated-uring",
        open: Open::Real(|tuning| {
            let uring = Uring::open(uring(tuning))?;
            Ok(Box::new(Isolating::with_threads(uring, tuning.threads)))
        }),
        submission: Submission::MayBlock,
        law: ISOLATED,
    },
    Contender {
        name: "isolated-aio",
        open: Open::Real(|tuning| {
            let config = AioConfig {
                paths: tuning.queue,
            };
            let aio = Aio::open(config)?;
            Ok(Box::new(Isolating::with_threads(aio, tuning.threads)))
        }),
        submission: Submission::MayBlock,
        law: ISOLATED,
    },
    Contender {
        name: "scripted",
        open: Open::Scripted,
        submission: Submission::Prompt,
        law: FREE,
    },
];

impl Contender {
    /// Whether its reads go to the kernel.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self.open, Open::Real(_))
    }

    /// What this machine lacks for it.
    pub(crate) fn missing(&self) -> Option<String> {
        match self.open {
            Open::Scripted => None,
            Open::Real(open) => pathpulse_faultdisk::available().err().or_else(|| {
                open(&Tuning::default())
                    .err()
                    .map(|error| error.to_string())
            }),
        }
    }
}
