//! Arguments that several commands share, and how their values are read.

use std::path::PathBuf;

use clap::ValueEnum;
use pathpulse::{BackendKind, Choice};

use crate::daemon::config::Layer;

use crate::daemon::config::SOCKET;
pub(crate) use crate::daemon::config::values::{duration, http_address};

/// Where the daemon's socket is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Socket {
    /// The daemon's socket
    #[arg(
        long = "socket",
        value_name = "FILE",
        env = "PATHPULSE_SOCKET",
        default_value = SOCKET
    )]
    pub(crate) file: PathBuf,
}

/// What carries the checks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The best that this kernel offers
    Auto,
    /// io_uring
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    /// io_uring without linked timeouts: a third less CPU time or more, deadlines kept less exactly
    #[value(name = "io_uring-unlinked")]
    Unlinked,
    /// Linux native AIO
    Aio,
    /// Threads that read
    Sync,
}

impl From<Backend> for Choice {
    fn from(backend: Backend) -> Choice {
        match backend {
            Backend::Auto => Choice::Auto,
            Backend::IoUring => Choice::Only(BackendKind::IoUring),
            Backend::Unlinked => Choice::Unlinked,
            Backend::Aio => Choice::Only(BackendKind::Aio),
            Backend::Sync => Choice::Only(BackendKind::Sync),
        }
    }
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Reads the option that has the name of this key of the configuration.
pub(crate) fn watch(key: &'static str) -> impl Fn(&str) -> Result<Layer, String> + Clone {
    move |value| Layer::of_option(key, value)
}
