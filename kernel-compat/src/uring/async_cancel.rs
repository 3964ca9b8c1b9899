//! Interprets the completions of a read that is not linked to its deadline (pure).
//!
//! A read without nowait goes to a kernel thread, which may block while it passes the read to the
//! device. It has no linked timeout (`linked_timeout.rs` describes why). The backend watches the
//! deadline, and when it passes, sends an ASYNC_CANCEL. The result tells where the read is:
//!
//! | ASYNC_CANCEL | the read is | the read's own result |
//! |---|---|---|
//! | 0 | waiting for a kernel thread | `ECANCELED`, at once |
//! | `ENOENT` | at the device | the device's answer, when it arrives |
//! | `EALREADY` | in a blocked kernel thread | unknown, when the thread is no longer blocked |

use crate::Errno;
use crate::backend::{Outcome, Stage};
use crate::errno::KernelResult;
use crate::uring::linked_timeout::Outcomes;

/// A read without nowait, from submission until it has completed and no ASYNC_CANCEL is pending.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsyncCancel {
    read: Option<KernelResult>,
    probing: bool,
    cancel_requested: bool,
    expired: bool,
}

impl AsyncCancel {
    /// The caller cancels the read.
    pub(crate) fn cancel(&mut self) {
        self.cancel_requested = true;
    }

    /// Whether the kernel no longer knows the read.
    pub(crate) fn is_over(&self) -> bool {
        self.read.is_some()
    }

    /// Whether the deadline passed and the kernel still owns the read.
    pub(crate) fn is_stuck(&self) -> bool {
        self.expired && self.read.is_none()
    }

    /// The deadline passed; the backend sends an ASYNC_CANCEL to find out where the read is.
    pub(crate) fn probe(&mut self) {
        self.probing = true;
    }

    /// The ASYNC_CANCEL completed, or could not be sent.
    pub(crate) fn cancel_completed(&mut self, result: KernelResult) -> Outcomes {
        if !std::mem::take(&mut self.probing) || self.expired {
            return [None, None];
        }
        match result {
            // Cancelled. The read's own completion will report that.
            Ok(_) => [None, None],
            Err(Errno::ENOENT) => self.expire(Stage::Device),
            Err(_) => self.expire(Stage::Submission),
        }
    }

    /// The read completed.
    pub(crate) fn read_completed(&mut self, result: KernelResult) -> Outcomes {
        debug_assert!(self.read.is_none(), "a read completes once");
        self.read = Some(result);
        let outcome = match result {
            _ if self.expired => Outcome::Late(result),
            Err(Errno::ECANCELED | Errno::EINTR) if self.cancel_requested => Outcome::Cancelled,
            Err(Errno::ECANCELED) => Outcome::NotStarted,
            // The ASYNC_CANCEL interrupted it, and it is unknown how far it was.
            Err(Errno::EINTR) if self.probing => {
                return [
                    self.expire(Stage::Submission)[0],
                    Some(Outcome::Late(result)),
                ];
            }
            Ok(bytes) => Outcome::Read(bytes),
            Err(errno) => Outcome::Failed(errno),
        };
        [Some(outcome), None]
    }

    fn expire(&mut self, stage: Stage) -> Outcomes {
        debug_assert!(!self.expired, "a read expires once");
        self.expired = true;
        [Some(Outcome::Expired(stage)), None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(answer: KernelResult) -> (AsyncCancel, Outcomes) {
        let mut read = AsyncCancel::default();
        read.probe();
        let outcomes = read.cancel_completed(answer);
        (read, outcomes)
    }

    #[test]
    fn the_module_table_is_correct() {
        for (errno, stage) in [
            (Errno::ENOENT, Stage::Device),
            (Errno::EALREADY, Stage::Submission),
        ] {
            let (mut read, outcomes) = probed(Err(errno));
            assert_eq!(outcomes, [Some(Outcome::Expired(stage)), None]);
            assert!(read.is_stuck() && !read.is_over());
            assert_eq!(
                read.read_completed(Ok(512)),
                [Some(Outcome::Late(Ok(512))), None]
            );
            assert!(!read.is_stuck() && read.is_over());
        }
        let (mut read, outcomes) = probed(Ok(0));
        assert_eq!(outcomes, [None, None]);
        let outcomes = read.read_completed(Err(Errno::ECANCELED));
        assert_eq!(outcomes, [Some(Outcome::NotStarted), None]);
    }

    #[test]
    fn a_read_may_complete_before_its_cancellation() {
        for (result, end) in [
            (Ok(512), Outcome::Read(512)),
            (Err(Errno::EIO), Outcome::Failed(Errno::EIO)),
            (Err(Errno::ECANCELED), Outcome::NotStarted),
        ] {
            let mut read = AsyncCancel::default();
            read.probe();
            assert_eq!(read.read_completed(result), [Some(end), None]);
            assert!(read.is_over() && !read.is_stuck());
        }
        let mut read = AsyncCancel::default();
        read.probe();
        let eintr = Err(Errno::EINTR);
        let both = [
            Some(Outcome::Expired(Stage::Submission)),
            Some(Outcome::Late(eintr)),
        ];
        assert_eq!(read.read_completed(eintr), both);
        assert!(read.is_over() && !read.is_stuck());
    }

    #[test]
    fn a_cancellation_by_the_caller_does_not_expire_the_read() {
        let mut read = AsyncCancel::default();
        read.cancel();
        assert_eq!(read.cancel_completed(Err(Errno::EALREADY)), [None, None]);
        let outcomes = read.read_completed(Err(Errno::EINTR));
        assert_eq!(outcomes, [Some(Outcome::Cancelled), None]);
    }
}
