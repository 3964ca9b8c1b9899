//! A read on a ring, linked to its deadline or not (pure).

use crate::errno::KernelResult;
use crate::uring::async_cancel::Asked;
use crate::uring::linked_timeout::{Link, Told};
use crate::uring::sqe::Kind;

/// What the completions of a read mean.
pub(crate) enum Life {
    Linked(Link),
    Asked(Asked),
}

impl Life {
    /// A read that is submitted.
    pub(crate) fn new(linked: bool) -> Life {
        if linked {
            Life::Linked(Link::default())
        } else {
            Life::Asked(Asked::default())
        }
    }

    /// The caller asked to cancel the read.
    pub(crate) fn cancel(&mut self) {
        match self {
            Life::Linked(link) => link.cancel(),
            Life::Asked(asked) => asked.cancel(),
        }
    }

    /// Its deadline passed, and the backend asks where it is.
    pub(crate) fn ask(&mut self) {
        match self {
            Life::Linked(link) => link.ask(),
            Life::Asked(asked) => asked.ask(),
        }
    }

    /// It was to be linked to its deadline, and is not: the backend has to watch that.
    pub(crate) fn is_unlinked(&self) -> bool {
        matches!(self, Life::Linked(link) if link.is_unlinked())
    }

    /// The read completed.
    pub(crate) fn read(&mut self, result: KernelResult) -> Told {
        match self {
            Life::Linked(link) => link.read(result),
            Life::Asked(asked) => asked.read(result),
        }
    }

    /// The completion of a linked timeout or of a cancellation.
    pub(crate) fn other(&mut self, kind: Kind, result: KernelResult) -> Told {
        match self {
            Life::Linked(link) if kind == Kind::Timer => link.timer(result),
            Life::Linked(link) if kind == Kind::Cancel => link.answered(result),
            Life::Asked(asked) if kind == Kind::Cancel => asked.answered(result),
            _ => [None, None],
        }
    }

    /// The kernel's last word was heard.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Life::Linked(link) => link.is_over(),
            Life::Asked(asked) => asked.is_over(),
        }
    }

    /// Past its deadline, and still the kernel's.
    pub(crate) fn is_stuck(&self) -> bool {
        match self {
            Life::Linked(link) => link.is_stuck(),
            Life::Asked(asked) => asked.is_stuck(),
        }
    }
}
