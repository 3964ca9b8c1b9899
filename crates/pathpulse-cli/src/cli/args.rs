//! Options and arguments that several commands share, each with its one help text.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, ValueEnum};
use pathpulse::{BackendKind, Choice};

use crate::daemon::config::{Layer, SOCKET};

/// Where the daemon's socket is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SocketOption {
    /// Socket of the daemon [default: /run/pathpulse/pathpulse.sock]
    #[arg(long, value_name = "FILE", env = "PATHPULSE_SOCKET")]
    socket: Option<PathBuf>,
}

impl SocketOption {
    /// `None` if neither the command line nor the environment names one.
    pub(crate) fn given(self) -> Option<PathBuf> {
        self.socket
    }

    pub(crate) fn file(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(SOCKET))
    }
}

/// Which backend reads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BackendOption {
    /// How reads reach the kernel [default: auto]
    #[arg(long, value_enum, value_name = "NAME", env = "PATHPULSE_BACKEND")]
    backend: Option<Backend>,
}

impl BackendOption {
    /// `None` if neither the command line nor the environment names one.
    pub(crate) fn given(&self) -> Option<Choice> {
        self.backend.map(Choice::from)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// The first of these that works on this kernel
    Auto,
    /// io_uring
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    /// io_uring without linked timeouts: a third less CPU time or more, less exact deadlines
    #[value(name = "io_uring-unlinked")]
    Unlinked,
    /// Linux native AIO
    Aio,
    /// Blocking reads in threads
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

/// How a command prints its result; `F` has the formats that the command knows.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FormatOption<F: ValueEnum + Send + Sync + 'static = Format> {
    /// How to print the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: F,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What `run` and `add` watch.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NewPaths<const REQUIRED: bool> {
    /// Paths to watch: block devices, or files that support O_DIRECT
    #[arg(value_name = "PATH", required = REQUIRED)]
    pub(crate) paths: Vec<PathBuf>,
}

/// What `check` and `doctor` read once.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReadPaths {
    /// Paths to read: block devices, files that support O_DIRECT, or directories
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

/// Paths that the daemon watches already.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WatchedPaths<const REQUIRED: bool> {
    /// Watched paths, by the names that `pathpulse status` shows or by other names of their devices
    #[arg(value_name = "PATH", required = REQUIRED)]
    pub(crate) paths: Vec<PathBuf>,
}

/// An option that sets a key of the configuration for all paths: `--backoff-max` sets
/// `backoff_max`. Its default is that of [`pathpulse::Settings`].
struct KeyOption {
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
}

const KEY_OPTIONS: [KeyOption; 7] = [
    key("interval", "DURATION", "Time between two checks of a path"),
    key(
        "timeout",
        "DURATION",
        "Time that a path has to answer a check",
    ),
    key(
        "backoff-max",
        "DURATION",
        "Longest time between two checks of a path that stays down",
    ),
    key("fall", "N", "Consecutive bad checks that take a path down"),
    key(
        "rise",
        "N",
        "Consecutive good checks that bring a path up again",
    ),
    key(
        "read-place",
        "PLACE",
        "Where a check reads: first, last or rotating, which changes with each check",
    ),
    key(
        "read-length",
        "BYTES",
        "Bytes that a check reads, up to 128KiB; 0 reads one block",
    ),
];

const fn key(name: &'static str, value_name: &'static str, help: &'static str) -> KeyOption {
    KeyOption {
        name,
        value_name,
        help,
    }
}

/// Which of the [`KEY_OPTIONS`] a command has.
pub(crate) trait KeySet {
    fn has(option: &str) -> bool;
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct AllKeys;

/// Those of a single check.
#[derive(Clone, Debug)]
pub(crate) struct CheckKeys;

/// The timeout alone.
#[derive(Clone, Debug)]
pub(crate) struct TimeoutKey;

impl KeySet for AllKeys {
    fn has(_: &str) -> bool {
        true
    }
}

impl KeySet for CheckKeys {
    fn has(option: &str) -> bool {
        ["timeout", "read-place", "read-length"].contains(&option)
    }
}

impl KeySet for TimeoutKey {
    fn has(option: &str) -> bool {
        option == "timeout"
    }
}

/// The values of the [`KEY_OPTIONS`] that were given.
#[derive(Clone, Debug)]
pub(crate) struct KeyOptions<K> {
    pub(crate) given: Layer,
    keys: PhantomData<K>,
}

impl<K: KeySet> KeyOptions<K> {
    fn all() -> impl Iterator<Item = &'static KeyOption> {
        KEY_OPTIONS.iter().filter(|option| K::has(option.name))
    }
}

impl KeyOption {
    fn arg(&self) -> Arg {
        let key = self.name.replace('-', "_");
        let default = Layer::default().show().find(|(name, ..)| *name == key);
        let default = default.map_or_else(String::new, |(_, value, _)| value.replace('"', ""));
        Arg::new(self.name)
            .long(self.name)
            .value_name(self.value_name)
            .help(format!("{} [default: {default}]", self.help))
            .value_parser(ValueParser::new(move |text: &str| {
                Layer::of_option(&key, text)
            }))
    }
}

impl<K: KeySet> clap::Args for KeyOptions<K> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(KeyOptions::<K>::all().map(KeyOption::arg))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        KeyOptions::<K>::augment_args(command)
    }
}

impl<K: KeySet> clap::FromArgMatches for KeyOptions<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<KeyOptions<K>, clap::Error> {
        let mut options = KeyOptions {
            given: Layer::default(),
            keys: PhantomData,
        };
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let values = KeyOptions::<K>::all().filter_map(|option| matches.get_one(option.name));
        values.for_each(|value| self.given.add(value));
        Ok(())
    }
}

/// Options that environment variables gave instead of the command line, each with its variable.
///
/// It must be the first field of a struct: the fields after it take their values out of what was
/// parsed.
#[derive(Clone, Debug)]
pub(crate) struct FromEnvironment(pub(crate) Vec<(&'static str, &'static str)>);

const VARIABLES: [(&str, &str); 2] = [
    ("backend", "PATHPULSE_BACKEND"),
    ("socket", "PATHPULSE_SOCKET"),
];

impl clap::Args for FromEnvironment {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl clap::FromArgMatches for FromEnvironment {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FromEnvironment, clap::Error> {
        let mut options = FromEnvironment(Vec::new());
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let environment = Some(ValueSource::EnvVariable);
        let given = VARIABLES.into_iter();
        let given = given.filter(|(option, _)| matches.value_source(option) == environment);
        self.0 = given.collect();
        Ok(())
    }
}
