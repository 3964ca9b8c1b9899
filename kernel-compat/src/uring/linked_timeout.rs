//! Interprets the two completions of a read and its linked timeout (pure).
//!
//! The kernel posts them in either order, at once or minutes apart. The timeout's result tells
//! where the read was when the deadline passed (measured on Linux 6.18, and asserted in the tests
//! of this backend):
//!
//! | timeout's result | the read was | the read's own result |
//! |---|---|---|
//! | `ECANCELED` | finished in time | its result |
//! | `ETIME` | waiting for a kernel thread | `ECANCELED`, at once |
//! | `ENOENT` | at the device, or in a blocked kernel thread | unknown, at any later time |
//! | `EALREADY` | in a blocked kernel thread | unknown, at any later time |
//! | anything else | not linked | its result, at any later time |
//!
//! A link breaks when the kernel takes the read but, short of memory, not its timeout. Then only
//! the timeout completes, with `EINVAL` (io_uring/timeout.c, io_link_timeout_prep). The deadline
//! has not passed. The backend watches it and sends an ASYNC_CANCEL, as for all reads that are not
//! linked (`async_cancel.rs`).
//!
//! A read at a device can never be cancelled. So `ENOENT` and `EALREADY` leave a stuck read.
//!
//! Only reads with nowait are linked: they never get to a kernel thread. For other reads the
//! timeout is useless: it mostly completes with `ENOENT` also for a read in a blocked thread (the
//! kernel's `io_try_cancel` loses the `EALREADY`), and it never fires for a read submitted with
//! `IOSQE_ASYNC`. `async_cancel.rs` handles these.

use crate::Errno;
use crate::backend::{Outcome, Stage};
use crate::errno::KernelResult;

/// A read and its timeout, from submission until both have completed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkedTimeout {
    read: Option<KernelResult>,
    timeout: Option<KernelResult>,
    cancel_requested: bool,
    reported: bool,
    expired: bool,
    probing: bool,
}

/// The outcomes to report after a completion: none, one, or an expiry together with the late end.
pub(crate) type Outcomes = [Option<Outcome>; 2];

impl LinkedTimeout {
    /// The caller cancels the read.
    pub(crate) fn cancel(&mut self) {
        self.cancel_requested = true;
    }

    /// Whether both completions were seen, so that the kernel no longer knows the read.
    pub(crate) fn is_over(&self) -> bool {
        self.read.is_some() && self.timeout.is_some()
    }

    /// Whether the deadline passed and the kernel still owns the read.
    pub(crate) fn is_stuck(&self) -> bool {
        self.expired && self.read.is_none()
    }

    /// The read completed.
    pub(crate) fn read_completed(&mut self, result: KernelResult) -> Outcomes {
        debug_assert!(self.read.is_none(), "a read completes once");
        self.read = Some(result);
        if self.expired {
            return [Some(Outcome::Late(result)), None];
        }
        match (result, self.timeout) {
            (Ok(bytes), _) => self.report(Outcome::Read(bytes)),
            (Err(Errno::ECANCELED | Errno::EINTR), _) if self.cancel_requested => {
                self.report(Outcome::Cancelled)
            }
            (Err(Errno::ECANCELED), Some(_)) => self.report(Outcome::NotStarted),
            // Cancelled or interrupted, presumably by its deadline. The timeout's result will tell.
            (Err(Errno::ECANCELED | Errno::EINTR), None) => [None, None],
            (Err(errno), _) => self.report(Outcome::Failed(errno)),
        }
    }

    /// The timeout completed.
    pub(crate) fn timeout_completed(&mut self, result: KernelResult) -> Outcomes {
        debug_assert!(self.timeout.is_none(), "a timeout completes once");
        self.timeout = Some(result);
        let stage = match result {
            Err(Errno::ENOENT) => Some(Stage::Device),
            Err(Errno::EALREADY) => Some(Stage::Submission),
            // In time, cancelled, or never linked.
            _ => None,
        };
        match (self.read, stage) {
            _ if self.reported => [None, None],
            (Some(Err(Errno::EINTR)), None) => self.report(Outcome::Failed(Errno::EINTR)),
            (Some(_), None) => self.report(Outcome::NotStarted),
            (Some(late), Some(stage)) => {
                self.expired = true;
                [
                    self.report(Outcome::Expired(stage))[0],
                    Some(Outcome::Late(late)),
                ]
            }
            // The read's own completion will report the rest.
            (None, None) => [None, None],
            (None, Some(stage)) => {
                self.expired = true;
                self.report(Outcome::Expired(stage))
            }
        }
    }

    /// Whether the timeout ended without a result for the read, and the read continues.
    pub(crate) fn is_unlinked(&self) -> bool {
        let is_uninformative = |timeout| {
            !matches!(
                timeout,
                Err(Errno::ECANCELED | Errno::ETIME | Errno::ENOENT | Errno::EALREADY)
            )
        };
        self.timeout.is_some_and(is_uninformative) && self.read.is_none() && !self.reported
    }

    /// The deadline of a read with a broken link passed; the backend sends an ASYNC_CANCEL to find
    /// out where the read is.
    pub(crate) fn probe(&mut self) {
        self.probing = true;
    }

    /// The ASYNC_CANCEL completed, or could not be sent.
    pub(crate) fn cancel_completed(&mut self, result: KernelResult) -> Outcomes {
        let was_probing = std::mem::take(&mut self.probing);
        match result {
            _ if !was_probing || self.reported => [None, None],
            // Cancelled. The read's own completion will report that.
            Ok(_) => [None, None],
            Err(errno) => {
                self.expired = true;
                self.report(Outcome::Expired(match errno {
                    Errno::ENOENT => Stage::Device,
                    _ => Stage::Submission,
                }))
            }
        }
    }

    fn report(&mut self, outcome: Outcome) -> Outcomes {
        debug_assert!(!self.reported, "{outcome:?} after another end");
        self.reported = true;
        [Some(outcome), None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READS: [KernelResult; 6] = [
        Ok(512),
        Ok(0),
        Err(Errno::EIO),
        Err(Errno::EAGAIN),
        Err(Errno::EINTR),
        Err(Errno::ECANCELED),
    ];
    const TIMEOUTS: [KernelResult; 5] = [
        Err(Errno::ECANCELED),
        Err(Errno::ETIME),
        Err(Errno::ENOENT),
        Err(Errno::EALREADY),
        Ok(0),
    ];

    fn is_end(outcome: Outcome) -> bool {
        !matches!(outcome, Outcome::Late(_))
    }

    #[test]
    fn every_pair_of_results_in_either_order_ends_once() {
        for read in READS {
            for timeout in TIMEOUTS {
                for read_first in [true, false] {
                    for cancel_requested in [true, false] {
                        let case = format!("{read:?} {timeout:?} {read_first} {cancel_requested}");
                        let mut link = LinkedTimeout::default();
                        if cancel_requested {
                            link.cancel();
                        }
                        let outcomes: Vec<Outcome> = if read_first {
                            [link.read_completed(read), link.timeout_completed(timeout)]
                        } else {
                            [link.timeout_completed(timeout), link.read_completed(read)]
                        }
                        .into_iter()
                        .flatten()
                        .flatten()
                        .collect();
                        assert!(link.is_over() && !link.is_stuck(), "{case}");
                        let ends = outcomes.iter().filter(|o| is_end(**o)).count();
                        assert_eq!(ends, 1, "{case}: {outcomes:?}");
                        assert!(is_end(outcomes[0]), "{case}: {outcomes:?}");
                        let expired = matches!(outcomes[0], Outcome::Expired(_));
                        assert_eq!(outcomes.len() == 2, expired, "{case}: {outcomes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_module_table_is_correct() {
        let end = |read, timeout| {
            let mut link = LinkedTimeout::default();
            let first = link.timeout_completed(timeout)[0];
            first.or(link.read_completed(read)[0])
        };
        let cancelled = Err(Errno::ECANCELED);
        assert_eq!(end(Ok(512), cancelled), Some(Outcome::Read(512)));
        assert_eq!(end(cancelled, Err(Errno::ETIME)), Some(Outcome::NotStarted));
        assert_eq!(
            end(Ok(512), Err(Errno::ENOENT)),
            Some(Outcome::Expired(Stage::Device))
        );
        assert_eq!(
            end(Ok(512), Err(Errno::EALREADY)),
            Some(Outcome::Expired(Stage::Submission))
        );
    }

    #[test]
    fn a_read_is_stuck_from_expiry_until_completion() {
        let mut link = LinkedTimeout::default();
        link.timeout_completed(Err(Errno::ENOENT));
        assert!(link.is_stuck() && !link.is_over());
        assert_eq!(
            link.read_completed(Ok(512)),
            [Some(Outcome::Late(Ok(512))), None]
        );
        assert!(!link.is_stuck() && link.is_over());
    }

    #[test]
    fn a_broken_link_does_not_expire_the_read() {
        let einval = Err(Errno::EINVAL);
        let mut link = LinkedTimeout::default();
        assert_eq!(
            link.timeout_completed(einval),
            [None, None],
            "its deadline has not passed"
        );
        assert!(link.is_unlinked() && !link.is_stuck() && !link.is_over());
        assert_eq!(
            link.read_completed(Ok(512)),
            [Some(Outcome::Read(512)), None]
        );
        assert!(link.is_over() && !link.is_unlinked());
        let mut link = LinkedTimeout::default();
        link.timeout_completed(einval);
        link.probe();
        let expired = Outcome::Expired(Stage::Device);
        assert_eq!(
            link.cancel_completed(Err(Errno::ENOENT)),
            [Some(expired), None]
        );
        assert!(link.is_stuck());
        assert_eq!(
            link.read_completed(Ok(512)),
            [Some(Outcome::Late(Ok(512))), None]
        );
        let mut link = LinkedTimeout::default();
        assert_eq!(
            link.read_completed(Ok(512)),
            [Some(Outcome::Read(512)), None]
        );
        assert_eq!(link.timeout_completed(einval), [None, None]);
        assert!(link.is_over() && !link.is_unlinked());
    }
}
