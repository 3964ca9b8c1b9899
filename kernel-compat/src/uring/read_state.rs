//! The state of a read on a ring, linked to its deadline or not (pure).

use crate::errno::KernelResult;
use crate::uring::async_cancel::AsyncCancel;
use crate::uring::linked_timeout::{LinkedTimeout, Outcomes};
use crate::uring::sqe::CompletionKind;

/// Interprets the completions of a read.
pub(crate) enum ReadState {
    Linked(LinkedTimeout),
    Unlinked(AsyncCancel),
}

impl ReadState {
    /// The state of a read that is being submitted.
    pub(crate) fn new(linked: bool) -> ReadState {
        if linked {
            ReadState::Linked(LinkedTimeout::default())
        } else {
            ReadState::Unlinked(AsyncCancel::default())
        }
    }

    /// The caller cancels the read.
    pub(crate) fn cancel(&mut self) {
        match self {
            ReadState::Linked(link) => link.cancel(),
            ReadState::Unlinked(read) => read.cancel(),
        }
    }

    /// The deadline passed, and the backend sends an ASYNC_CANCEL to find out where the read is.
    pub(crate) fn probe(&mut self) {
        match self {
            ReadState::Linked(link) => link.probe(),
            ReadState::Unlinked(read) => read.probe(),
        }
    }

    /// Whether the read should be linked to its deadline and is not. Then the backend has to watch
    /// the deadline.
    pub(crate) fn is_unlinked(&self) -> bool {
        matches!(self, ReadState::Linked(link) if link.is_unlinked())
    }

    /// The read completed.
    pub(crate) fn read_completed(&mut self, result: KernelResult) -> Outcomes {
        match self {
            ReadState::Linked(link) => link.read_completed(result),
            ReadState::Unlinked(read) => read.read_completed(result),
        }
    }

    /// A linked timeout or a cancellation completed.
    pub(crate) fn other_completed(
        &mut self,
        kind: CompletionKind,
        result: KernelResult,
    ) -> Outcomes {
        match self {
            ReadState::Linked(link) if kind == CompletionKind::Timeout => {
                link.timeout_completed(result)
            }
            ReadState::Linked(link) if kind == CompletionKind::Cancel => {
                link.cancel_completed(result)
            }
            ReadState::Unlinked(read) if kind == CompletionKind::Cancel => {
                read.cancel_completed(result)
            }
            _ => [None, None],
        }
    }

    /// Whether the last completion was seen.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            ReadState::Linked(link) => link.is_over(),
            ReadState::Unlinked(read) => read.is_over(),
        }
    }

    /// Whether the deadline passed and the kernel still owns the read.
    pub(crate) fn is_stuck(&self) -> bool {
        match self {
            ReadState::Linked(link) => link.is_stuck(),
            ReadState::Unlinked(read) => read.is_stuck(),
        }
    }
}
