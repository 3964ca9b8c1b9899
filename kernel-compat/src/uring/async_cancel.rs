//! What the completions of a read without nowait mean (pure).
//!
//! Such a read goes to a kernel thread, which may be blocked while it hands the read to the device.
//! It has no linked timeout (`linked_timeout.rs` says why): the backend watches its deadline, and when that
//! passes, asks by an ASYNC_CANCEL. The answer tells where the read is:
//!
//! | the answer is | the read is | the read says |
//! |---|---|---|
//! | 0 | waiting for a kernel thread | `ECANCELED`, at once |
//! | `ENOENT` | at the device | its result, when the device answers |
//! | `EALREADY` | in a blocked kernel thread | whatever ends that, whenever |

use crate::Errno;
use crate::backend::{Outcome, Stage};
use crate::errno::KernelResult;
use crate::uring::linked_timeout::Told;

/// A read without nowait, from submit until it has completed and no question about it is open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    read: Option<KernelResult>,
    asking: bool,
    cancelling: bool,
    expired: bool,
}

impl Asked {
    /// The caller asked to cancel the read.
    pub(crate) fn cancel(&mut self) {
        self.cancelling = true;
    }

    /// The kernel knows nothing of the read any more.
    pub(crate) fn is_over(&self) -> bool {
        self.read.is_some()
    }

    /// Past its deadline, and still the kernel's.
    pub(crate) fn is_stuck(&self) -> bool {
        self.expired && self.read.is_none()
    }

    /// The deadline passed; the backend has to ask where the read is.
    pub(crate) fn ask(&mut self) {
        self.asking = true;
    }

    /// The question was answered, or could not be put.
    pub(crate) fn answered(&mut self, answer: KernelResult) -> Told {
        if !std::mem::take(&mut self.asking) || self.expired {
            return [None, None];
        }
        match answer {
            // Cancelled: the read's own completion is on its way and says so.
            Ok(_) => [None, None],
            Err(Errno::ENOENT) => self.expire(Stage::Device),
            Err(_) => self.expire(Stage::Submission),
        }
    }

    /// The read completed.
    pub(crate) fn read(&mut self, result: KernelResult) -> Told {
        debug_assert!(self.read.is_none(), "a read completes once");
        self.read = Some(result);
        let outcome = match result {
            _ if self.expired => Outcome::Late(result),
            Err(Errno::ECANCELED | Errno::EINTR) if self.cancelling => Outcome::Cancelled,
            Err(Errno::ECANCELED) => Outcome::NotStarted,
            // The question has interrupted it, and nobody knows how far it was.
            Err(Errno::EINTR) if self.asking => {
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

    fn expire(&mut self, stage: Stage) -> Told {
        debug_assert!(!self.expired, "a read expires once");
        self.expired = true;
        [Some(Outcome::Expired(stage)), None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answer: KernelResult) -> (Asked, Told) {
        let mut read = Asked::default();
        read.ask();
        let told = read.answered(answer);
        (read, told)
    }

    #[test]
    fn the_table_of_the_module_holds() {
        for (errno, stage) in [
            (Errno::ENOENT, Stage::Device),
            (Errno::EALREADY, Stage::Submission),
        ] {
            let (mut read, told) = asked(Err(errno));
            assert_eq!(told, [Some(Outcome::Expired(stage)), None]);
            assert!(read.is_stuck() && !read.is_over());
            assert_eq!(read.read(Ok(512)), [Some(Outcome::Late(Ok(512))), None]);
            assert!(!read.is_stuck() && read.is_over());
        }
        let (mut read, told) = asked(Ok(0));
        assert_eq!(told, [None, None]);
        let told = read.read(Err(Errno::ECANCELED));
        assert_eq!(told, [Some(Outcome::NotStarted), None]);
    }

    #[test]
    fn a_result_that_overtakes_the_answer_is_the_end() {
        for (result, end) in [
            (Ok(512), Outcome::Read(512)),
            (Err(Errno::EIO), Outcome::Failed(Errno::EIO)),
            (Err(Errno::ECANCELED), Outcome::NotStarted),
        ] {
            let mut read = Asked::default();
            read.ask();
            assert_eq!(read.read(result), [Some(end), None]);
            assert!(read.is_over() && !read.is_stuck());
        }
        let mut read = Asked::default();
        read.ask();
        let eintr = Err(Errno::EINTR);
        let both = [
            Some(Outcome::Expired(Stage::Submission)),
            Some(Outcome::Late(eintr)),
        ];
        assert_eq!(read.read(eintr), both);
        assert!(read.is_over() && !read.is_stuck());
    }

    #[test]
    fn the_answer_to_the_callers_own_cancellation_expires_nothing() {
        let mut read = Asked::default();
        read.cancel();
        assert_eq!(read.answered(Err(Errno::EALREADY)), [None, None]);
        let told = read.read(Err(Errno::EINTR));
        assert_eq!(told, [Some(Outcome::Cancelled), None]);
    }
}
