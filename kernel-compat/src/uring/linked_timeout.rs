//! What the two completions of a read and its linked timeout mean together (pure).
//!
//! The kernel posts them in either order, minutes apart or at once. The timeout's result tells
//! where the read was when the deadline passed (measured on Linux 6.18, and asserted in the
//! tests of the ring backend):
//!
//! | the timeout says | the read was | the read says |
//! |---|---|---|
//! | `ECANCELED` | finished in time | its result |
//! | `ETIME` | waiting for a kernel thread | `ECANCELED`, at once |
//! | `ENOENT` | at the device, or in a blocked kernel thread | whatever ends that, whenever |
//! | `EALREADY` | in a blocked kernel thread | whatever ends that, whenever |
//! | anything else | not linked | its result, whenever |
//!
//! A link breaks when the kernel takes the read and not yet its timeout, being short of memory: it
//! says `EINVAL` of the timeout alone then (io_uring/timeout.c, io_link_timeout_prep). The deadline
//! has not passed, and the backend watches it and asks, as for all reads that are not linked
//! (`asked.rs`).
//!
//! So no cancellation of a read at a device ever succeeds, and the last two leave a stuck read.
//!
//! Only reads with nowait are linked, which never get to a kernel thread. For those that may, the
//! timeout is no use: it mostly says `ENOENT` of a read in a blocked thread as well (the kernel's
//! `io_try_cancel` loses the `EALREADY`), and it never fires for a read that was submitted with
//! `IOSQE_ASYNC`. `asked.rs` has these.

use crate::Errno;
use crate::backend::{Outcome, Stage};
use crate::errno::KernelResult;

/// A read and its timeout, from submit until both have completed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    read: Option<KernelResult>,
    timer: Option<KernelResult>,
    cancelling: bool,
    told: bool,
    expired: bool,
    asking: bool,
}

/// What the caller has to be told after a completion: nothing, one thing, or an expiry and the
/// late end at once.
pub(crate) type Told = [Option<Outcome>; 2];

impl Link {
    /// The caller asked to cancel the read.
    pub(crate) fn cancel(&mut self) {
        self.cancelling = true;
    }

    /// Both completions were seen: the kernel knows nothing of the read any more.
    pub(crate) fn is_over(&self) -> bool {
        self.read.is_some() && self.timer.is_some()
    }

    /// Past its deadline, and still the kernel's.
    pub(crate) fn is_stuck(&self) -> bool {
        self.expired && self.read.is_none()
    }

    /// The read completed.
    pub(crate) fn read(&mut self, result: KernelResult) -> Told {
        debug_assert!(self.read.is_none(), "a read completes once");
        self.read = Some(result);
        if self.expired {
            return [Some(Outcome::Late(result)), None];
        }
        match (result, self.timer) {
            (Ok(bytes), _) => self.tell(Outcome::Read(bytes)),
            (Err(Errno::ECANCELED | Errno::EINTR), _) if self.cancelling => {
                self.tell(Outcome::Cancelled)
            }
            (Err(Errno::ECANCELED), Some(_)) => self.tell(Outcome::NotStarted),
            // Cancelled or interrupted, by its deadline presumably: the timer will say.
            (Err(Errno::ECANCELED | Errno::EINTR), None) => [None, None],
            (Err(errno), _) => self.tell(Outcome::Failed(errno)),
        }
    }

    /// The timeout completed.
    pub(crate) fn timer(&mut self, result: KernelResult) -> Told {
        debug_assert!(self.timer.is_none(), "a timeout completes once");
        self.timer = Some(result);
        let stage = match result {
            Err(Errno::ENOENT) => Some(Stage::Device),
            Err(Errno::EALREADY) => Some(Stage::Submission),
            // In time, withdrawn, or never linked.
            _ => None,
        };
        match (self.read, stage) {
            _ if self.told => [None, None],
            (Some(Err(Errno::EINTR)), None) => self.tell(Outcome::Failed(Errno::EINTR)),
            (Some(_), None) => self.tell(Outcome::NotStarted),
            (Some(late), Some(stage)) => {
                self.expired = true;
                [
                    self.tell(Outcome::Expired(stage))[0],
                    Some(Outcome::Late(late)),
                ]
            }
            // The read's own completion is on its way and tells the rest.
            (None, None) => [None, None],
            (None, Some(stage)) => {
                self.expired = true;
                self.tell(Outcome::Expired(stage))
            }
        }
    }

    /// Its timeout is gone without a word about the read, which goes on.
    pub(crate) fn is_unlinked(&self) -> bool {
        let says_nothing = |timer| {
            !matches!(
                timer,
                Err(Errno::ECANCELED | Errno::ETIME | Errno::ENOENT | Errno::EALREADY)
            )
        };
        self.timer.is_some_and(says_nothing) && self.read.is_none() && !self.told
    }

    /// The deadline of a read passed that is not linked to it; the backend asks where that is.
    pub(crate) fn ask(&mut self) {
        self.asking = true;
    }

    /// The question was answered, or could not be put.
    pub(crate) fn answered(&mut self, answer: KernelResult) -> Told {
        let was_asking = std::mem::take(&mut self.asking);
        match answer {
            _ if !was_asking || self.told => [None, None],
            // Cancelled: the read's own completion is on its way and says so.
            Ok(_) => [None, None],
            Err(errno) => {
                self.expired = true;
                self.tell(Outcome::Expired(match errno {
                    Errno::ENOENT => Stage::Device,
                    _ => Stage::Submission,
                }))
            }
        }
    }

    fn tell(&mut self, outcome: Outcome) -> Told {
        debug_assert!(!self.told, "{outcome:?} after another end");
        self.told = true;
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
    const TIMERS: [KernelResult; 5] = [
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
    fn every_order_of_every_pair_ends_once() {
        for read in READS {
            for timer in TIMERS {
                for read_first in [true, false] {
                    for cancelling in [true, false] {
                        let case = format!("{read:?} {timer:?} {read_first} {cancelling}");
                        let mut link = Link::default();
                        if cancelling {
                            link.cancel();
                        }
                        let told: Vec<Outcome> = if read_first {
                            [link.read(read), link.timer(timer)]
                        } else {
                            [link.timer(timer), link.read(read)]
                        }
                        .into_iter()
                        .flatten()
                        .flatten()
                        .collect();
                        assert!(link.is_over() && !link.is_stuck(), "{case}");
                        let ends = told.iter().filter(|o| is_end(**o)).count();
                        assert_eq!(ends, 1, "{case}: {told:?}");
                        assert!(is_end(told[0]), "{case}: {told:?}");
                        let expired = matches!(told[0], Outcome::Expired(_));
                        assert_eq!(told.len() == 2, expired, "{case}: {told:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_table_of_the_module_holds() {
        let end = |read, timer| {
            let mut link = Link::default();
            let first = link.timer(timer)[0];
            first.or(link.read(read)[0])
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
    fn a_read_is_stuck_from_its_expiry_to_its_own_completion() {
        let mut link = Link::default();
        link.timer(Err(Errno::ENOENT));
        assert!(link.is_stuck() && !link.is_over());
        assert_eq!(link.read(Ok(512)), [Some(Outcome::Late(Ok(512))), None]);
        assert!(!link.is_stuck() && link.is_over());
    }

    #[test]
    fn a_broken_link_is_no_expiry_and_its_deadline_is_watched() {
        let einval = Err(Errno::EINVAL);
        let mut link = Link::default();
        assert_eq!(
            link.timer(einval),
            [None, None],
            "its deadline has not passed"
        );
        assert!(link.is_unlinked() && !link.is_stuck() && !link.is_over());
        assert_eq!(link.read(Ok(512)), [Some(Outcome::Read(512)), None]);
        assert!(link.is_over() && !link.is_unlinked());
        let mut link = Link::default();
        link.timer(einval);
        link.ask();
        let expired = Outcome::Expired(Stage::Device);
        assert_eq!(link.answered(Err(Errno::ENOENT)), [Some(expired), None]);
        assert!(link.is_stuck());
        assert_eq!(link.read(Ok(512)), [Some(Outcome::Late(Ok(512))), None]);
        let mut link = Link::default();
        assert_eq!(link.read(Ok(512)), [Some(Outcome::Read(512)), None]);
        assert_eq!(link.timer(einval), [None, None]);
        assert!(link.is_over() && !link.is_unlinked());
    }
}
