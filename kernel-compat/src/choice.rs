//! Which backend carries the reads.
//!
//! `auto` takes the best that works here: io_uring, then libaio's calls, then threads. Whether one
//! works is found out by opening it and reading through it, never from a version. Why the better
//! ones did not work is kept, for a person to see and to mend.

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
    /// This one or none.
    Only(BackendKind),
    /// io_uring or none, with deadlines that are watched and not linked to the reads: see
    /// [`UringConfig::linked_timeouts`].
    Unlinked,
}

impl Choice {
    /// All backends of the kernel, the best first.
    pub const KINDS: [BackendKind; 3] = [BackendKind::IoUring, BackendKind::Aio, BackendKind::Sync];

    /// What is to be tried, in this order.
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
                format!("no backend is called {name}; there are auto, io_uring, io_uring-unlinked, aio and sync")
            })
    }
}

/// A backend that can't be used here, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Which.
    pub kind: BackendKind,
    /// The call that failed, how, and what to do about it.
    pub error: KernelError,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not available: {}", self.kind, self.error)
    }
}

/// A backend that works.
pub struct Opened {
    /// The backend. Must stay on this thread.
    pub backend: Box<dyn Backend>,
    /// Which of io_uring's features it uses, if it is one of io_uring.
    pub features: Option<RingFeatures>,
    /// The better ones that were tried before.
    pub unavailable: Vec<Unavailable>,
}

/// Opens the backend of choice on this thread. `paths` is how many are expected.
///
/// # Errors
/// All that were tried, best first, when none works; at least one.
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

type Kind = (Box<dyn Backend>, Option<RingFeatures>);

fn open_kind(kind: BackendKind, linked_timeouts: bool, paths: u32) -> Result<Kind, KernelError> {
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
                .hint("the scripted backend is made by simulations only"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_choices_and_back() {
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
    fn each_backend_opens_here_or_says_why() {
        for kind in Choice::KINDS {
            match open_backend(Choice::Only(kind), 16) {
                Ok(opened) => {
                    assert_eq!(opened.backend.kind(), kind);
                    assert!(opened.unavailable.is_empty());
                }
                Err(tried) => assert_eq!(tried.len(), 1),
            }
        }
        let best = open_backend(Choice::Auto, 16).expect("threads work anywhere");
        let tried: Vec<BackendKind> = best.unavailable.iter().map(|tried| tried.kind).collect();
        assert_eq!(Choice::KINDS[..tried.len()], tried);
        assert_eq!(best.backend.kind(), Choice::KINDS[tried.len()]);
    }

    #[test]
    fn the_scripted_backend_is_not_to_be_had() {
        assert!(open_backend(Choice::Only(BackendKind::Scripted), 1).is_err());
    }
}
