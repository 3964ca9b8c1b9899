//! Chooses the backend for the reads.
//!
//! `auto` takes the best one that works here: io_uring, then libaio's system calls, then threads.
//! To find out, it opens a backend and reads through it; it never looks at a version. The reasons
//! why better backends did not work are kept for the user.

use std::fmt;
use std::str::FromStr;

use crate::{
    Aio, AioConfig, Backend, BackendKind, Isolating, KernelError, Preadv, PreadvConfig,
    RingFeatures, Uring, UringConfig,
};

/// The backend that the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that works.
    #[default]
    Auto,
    /// Only this one.
    Only(BackendKind),
    /// Only io_uring, with deadlines that the backend watches instead of linking them to the reads.
    /// See [`UringConfig::linked_timeouts`].
    Unlinked,
}

impl Choice {
    /// All backends of the kernel, best first.
    pub const KINDS: [BackendKind; 3] = [BackendKind::IoUring, BackendKind::Aio, BackendKind::Sync];

    /// The backends to try, in this order.
    fn kinds(self) -> Vec<BackendKind> {
        match self {
            Choice::Auto => Choice::KINDS.to_vec(),
            Choice::Only(kind) => vec![kind],
            Choice::Unlinked => vec![BackendKind::IoUring],
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Only(kind) => kind.fmt(f),
            Choice::Unlinked => f.write_str("io_uring-unlinked"),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> Result<Choice, String> {
        let all = [Choice::Auto, Choice::Unlinked]
            .into_iter()
            .chain(Choice::KINDS.map(Choice::Only));
        all.into_iter()
            .find(|choice| choice.to_string() == name)
            .ok_or_else(|| {
                format!("unknown backend {name}: expected auto, io_uring, io_uring-unlinked, aio or sync")
            })
    }
}

/// A backend that can't be used here, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The backend.
    pub kind: BackendKind,
    /// The call that failed, its errno, and what to do about it.
    pub error: KernelError,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not available: {}", self.kind, self.error)
    }
}

/// An open backend that works.
pub struct Opened {
    /// The backend. It must stay on this thread.
    pub backend: Box<dyn Backend>,
    /// The features of io_uring that it uses. `None` for other backends.
    pub features: Option<RingFeatures>,
    /// The better backends that were tried first and failed.
    pub unavailable: Vec<Unavailable>,
}

/// Opens the chosen backend on this thread. `paths` is the expected number of paths.
///
/// # Errors
/// None works. Returns all that were tried, best first; at least one.
pub fn open_backend(choice: Choice, paths: u32) -> Result<Opened, Vec<Unavailable>> {
    let mut unavailable = Vec::new();
    for kind in choice.kinds() {
        match open_kind(kind, choice != Choice::Unlinked, paths) {
            Ok((backend, features)) => {
                return Ok(Opened {
                    backend,
                    features,
                    unavailable,
                });
            }
            Err(error) => unavailable.push(Unavailable { kind, error }),
        }
    }
    Err(unavailable)
}

type OpenedKind = (Box<dyn Backend>, Option<RingFeatures>);

fn open_kind(
    kind: BackendKind,
    linked_timeouts: bool,
    paths: u32,
) -> Result<OpenedKind, KernelError> {
    Ok(match kind {
        BackendKind::IoUring => {
            let uring = Uring::open(UringConfig {
                linked_timeouts,
                ..UringConfig::default()
            })?;
            let features = uring.features();
            (Box::new(Isolating::new(uring)), Some(features))
        }
        BackendKind::Aio => {
            let config = AioConfig { paths };
            (Box::new(Isolating::new(Aio::open(config)?)), None)
        }
        BackendKind::Sync => {
            let preadv = Preadv::open(PreadvConfig::default())?;
            (Box::new(Isolating::new(preadv)), None)
        }
        BackendKind::Scripted => {
            return Err(KernelError::new("open", crate::Errno::EOPNOTSUPP)
                .hint("only simulations create the scripted backend"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["auto", "io_uring", "io_uring-unlinked", "aio", "sync"] {
            assert_eq!(name.parse::<Choice>().expect(name).to_string(), name);
        }
        assert!("scripted".parse::<Choice>().is_err());
        assert!(
            "uring"
                .parse::<Choice>()
                .expect_err("unknown")
                .contains("io_uring")
        );
    }

    #[test]
    fn each_backend_opens_or_gives_a_reason() {
        for kind in Choice::KINDS {
            match open_backend(Choice::Only(kind), 16) {
                Ok(opened) => {
                    assert_eq!(opened.backend.kind(), kind);
                    assert!(opened.unavailable.is_empty());
                }
                Err(tried) => assert_eq!(tried.len(), 1),
            }
        }
        let best = open_backend(Choice::Auto, 16).expect("threads always work");
        let tried: Vec<BackendKind> = best.unavailable.iter().map(|tried| tried.kind).collect();
        assert_eq!(Choice::KINDS[..tried.len()], tried);
        assert_eq!(best.backend.kind(), Choice::KINDS[tried.len()]);
    }

    #[test]
    fn the_scripted_backend_cannot_be_chosen() {
        assert!(open_backend(Choice::Only(BackendKind::Scripted), 1).is_err());
    }
}
