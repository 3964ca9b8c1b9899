//! The control protocol: one JSON document per line, requests in one direction, replies in the
//! other, matched by id. The user speaks it with the supervisor. The supervisor, as a client,
//! speaks it with the server.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{Behaviour, Counts, Load, Release, Spec};

/// Changes with the protocol's sources, so that an outdated `faultdisk` binary is refused instead
/// of misunderstood.
pub(crate) const FINGERPRINT: u64 = fnv(
    include_str!("spec.rs"),
    fnv(include_str!("wire.rs"), 0xcbf2_9ce4_8422_2325),
);

const fn fnv(text: &str, seed: u64) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = seed;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RequestMsg {
    pub(crate) id: u64,
    pub(crate) command: CommandMsg,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandMsg {
    /// Always the first command.
    Start {
        fingerprint: u64,
        spec: Spec,
    },
    Set(Vec<(usize, Behaviour)>),
    Release(usize, Release),
    Recover(usize),
    Counts(usize),
    WaitHeld {
        disk: usize,
        at_least: usize,
        timeout: Duration,
    },
    WaitArrived {
        disk: usize,
        at_least: u64,
        timeout: Duration,
    },
    Saturate(usize, Load),
    Unsaturate(usize),
    Vanish(usize),
    Reappear(usize),
    /// To the supervisor: end the rig. To the server: from now on fail every request, including
    /// held ones.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReplyMsg {
    pub(crate) id: u64,
    pub(crate) result: Result<AnswerMsg, Failure>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AnswerMsg {
    Done,
    Number(u64),
    Counts(Counts),
    Disk(DiskInfo),
    Ready {
        disks: Vec<DiskInfo>,
        supervisor: u32,
        server: u32,
        folder: PathBuf,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DiskInfo {
    pub(crate) path: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum FailureKind {
    TimedOut,
    InvalidInput,
    Other,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => FailureKind::TimedOut,
            io::ErrorKind::InvalidInput => FailureKind::InvalidInput,
            _ => FailureKind::Other,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::TimedOut => io::ErrorKind::TimedOut,
            FailureKind::InvalidInput => io::ErrorKind::InvalidInput,
            FailureKind::Other => io::ErrorKind::Other,
        };
        Self::new(kind, failure.message)
    }
}

/// Writes one message and its newline in a single write, so that lines of several threads never
/// mix.
pub(crate) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Adds the failed action to an error.
pub(crate) fn context(what: impl std::fmt::Display, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// An error for an invalid request.
pub(crate) fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}
