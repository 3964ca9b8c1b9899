//! The states, causes and error names in documents.
//!
//! The library decides states and causes. The daemon adds those of paths that are not open and of
//! paths that leave the watchlist; a client adds `overdue` when it shows a path.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::words::words;

words! {
    /// The state of a path as documents have it and as tables show it.
    PathState {
        /// The device does not answer, or answers with errors.
        Down = "down",
        /// Its last verdict is late, so its state is not known. Never in `state`: only shown.
        Overdue = "overdue",
        /// It answers, but too often with errors, or too slowly.
        Marginal = "marginal",
        /// No verdict yet, or not open.
        Pending = "pending",
        /// The target serves no reads on this path by design.
        Standby = "standby",
        /// A person stopped its checks.
        Paused = "paused",
        /// It answers.
        Up = "up",
        /// It left the watchlist. Only in `to` of an event.
        Removed = "removed",
    }
}

words! {
    /// Why a path is in its state, or why an event happened.
    PathCause {
        NotChecked = "not_checked",
        Good = "good",
        Busy = "busy",
        Failed = "failed",
        ShortRead = "short_read",
        TimedOut = "timed_out",
        Saturated = "saturated",
        Offline = "offline",
        Standby = "standby",
        Unknown = "unknown",
        /// The device is gone; also of a path that waits for its disk to come back.
        DeviceGone = "device_gone",
        IoError = "io_error",
        MediumError = "medium_error",
        TargetError = "target_error",
        TransportError = "transport_error",
        ReservationConflict = "reservation_conflict",
        ErrorRate = "error_rate",
        Flapping = "flapping",
        Slow = "slow",
        LastUsable = "last_usable",
        /// A command asked for it.
        Command = "command",
        LateAnswer = "late_answer",
        LeadsElsewhere = "leads_elsewhere",
        /// A path on the watchlist that has not been opened.
        NotOpen = "not_open",
        /// A reload of the configuration removed or changed the path.
        Reload = "reload",
        /// Another name, or another path of the same group, took the path's place.
        Replaced = "replaced",
    }
}

words! {
    /// Which thread submits a path's reads.
    Submission {
        /// The worker's thread, for all of its paths.
        Shared = "shared",
        /// A thread of this path.
        Thread = "thread",
    }
}

/// The name of an error of the kernel, such as `EIO`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ErrnoName(pub(crate) String);

impl PathState {
    /// States from the worst to the best, in the order in which they are shown.
    pub(crate) const FROM_WORST: [PathState; 7] = [
        PathState::Down,
        PathState::Overdue,
        PathState::Marginal,
        PathState::Pending,
        PathState::Standby,
        PathState::Paused,
        PathState::Up,
    ];
}

impl From<pathpulse::State> for PathState {
    fn from(state: pathpulse::State) -> PathState {
        PathState::from(state.name())
    }
}

impl From<pathpulse::Cause> for PathCause {
    fn from(cause: pathpulse::Cause) -> PathCause {
        PathCause::from(cause.name())
    }
}

impl From<pathpulse::Errno> for ErrnoName {
    fn from(errno: pathpulse::Errno) -> ErrnoName {
        ErrnoName(errno.to_string())
    }
}

impl fmt::Display for ErrnoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pathpulse::{Cause, Errno, State, VerdictKind};

    #[test]
    fn words_stay_the_same_in_json_and_unknown_ones_are_kept() {
        for state in PathState::KNOWN {
            assert_eq!(&PathState::from(state.as_str()), state);
        }
        for cause in PathCause::KNOWN {
            assert_eq!(&PathCause::from(cause.as_str()), cause);
        }
        for submission in Submission::KNOWN {
            assert_eq!(&Submission::from(submission.as_str()), submission);
        }
        for word in [r#""up""#, r#""of_a_newer_daemon""#] {
            let state: PathState = serde_json::from_str(word).expect("a word");
            assert_eq!(serde_json::to_string(&state).expect("text"), word);
        }
        let newer = PathState::from("of_a_newer_daemon");
        assert_eq!(newer, PathState::Other("of_a_newer_daemon".to_owned()));
    }

    #[test]
    fn each_state_and_cause_of_the_library_is_known() {
        for state in State::ALL {
            assert!(!matches!(PathState::from(state), PathState::Other(_)));
        }
        let errnos = (1..134).map(|number| Some(Errno::from_raw(number)));
        let verdicts = VerdictKind::ALL.map(|kind| Cause::Verdict(kind, None));
        let failed = errnos.map(|errno| Cause::Verdict(VerdictKind::Failed, errno));
        let others = [
            Cause::NotChecked,
            Cause::ErrorRate,
            Cause::Flapping,
            Cause::Slow,
            Cause::LastUsable,
            Cause::Command,
            Cause::LateAnswer,
            Cause::LeadsElsewhere,
        ];
        for cause in verdicts.into_iter().chain(failed).chain(others) {
            let known = PathCause::from(cause);
            assert!(!matches!(known, PathCause::Other(_)), "{known}");
        }
    }
}
