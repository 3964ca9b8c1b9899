//! From verdicts to states (pure: no clock, no I/O).
//!
//! | state | means | entered when | left when |
//! |---|---|---|---|
//! | `Pending` | no verdict yet | the path is added or resumed | the first verdict about the device |
//! | `Up` | it works | good from `Pending`, `Standby`; `rise` good in a row from `Down`; from `Marginal` when clean for `recovery` | as below |
//! | `Marginal` | it works, but not well | as `Up`, while an impairment is present; from `Up` when one appears | clean for `recovery` |
//! | `Standby` | its target serves no reads on this path, by design | a `Standby` verdict | the next other verdict |
//! | `Down` | it does not work | `fall` bad in a row from any state but `Paused` | as above |
//! | `Paused` | it is not checked | on command | on command |
//!
//! Good verdicts are `Good` and a reservation conflict (`EBADE`): the target answered over this
//! path, and refuses this host because another one reserved the storage. `Busy` means that the
//! device completes other I/O but admitted none of our reads. It keeps an `Up` path up. It changes
//! nothing else and resets no count, because a device that fails all requests completes requests,
//! too. So it brings no path up and none down. `Unknown` concerns ourselves and changes nothing
//! either. All other verdicts except `Standby` are bad.
//!
//! The impairments, in the order in which they are tested: the path *flaps* (it went down more than
//! `flaps` times within `flap_window`), it *fails* (more than `marginal_errors_per_mille` of its
//! last hundred verdicts were bad), it is *slow* (see `health/peers.rs`). They count for a good
//! verdict within `recovery` after the last bad one, or while the path is slow. The last working
//! path of a group is shown as `Up` in spite of its impairments (`health/peers.rs`).
//!
//! | cause | of the states | meaning |
//! |---|---|---|
//! | `good`, `busy`, `reservation_conflict` | `Up` | the verdict |
//! | `error_rate`, `flapping`, `slow` | `Marginal` | the impairment |
//! | `last_usable` | `Up` | it has an impairment, and no peer is up |
//! | `device_gone`, `io_error`, `medium_error`, `target_error`, `transport_error`, `failed` | `Down` | the class of the errno (`health/fault.rs`) |
//! | `device_gone` | `Down` | also: the read returned 0 bytes, and the device has no size any more |
//! | `timed_out`, `saturated`, `short_read`, `offline` | `Down` | the verdict |
//! | `standby` | `Standby` | the verdict |
//! | `not_checked`, `command` | `Pending`, `Paused` | nothing was checked yet; set on command |
//! | `late_answer` | none: an event only | a stuck read completed after all |
//! | `leads_elsewhere` | none: an event only | the name of the path leads to something else than the watched device |
//!
//! While a read is stuck the path is not read again. Each due check then is `TimedOut`, too, until
//! the path is `Down`. After that there is nothing new to report until the kernel returns the stuck
//! read.
//!
//! The kernel's states of SCSI and NVMe devices (sysfs `state`, see `device/sysfs.rs`) lead to
//! these verdicts: `offline`, `transport-offline`, `dead`, `deleted`, `deleting` and `cancel` are
//! `Offline`, without a read. In `blocked`, `quiesce`, `resetting` and `connecting` the kernel
//! holds I/O back for a while. Such a path is read as usual, and the check fails exactly if that
//! lasts longer than the timeout.

use pathpulse_kernel_compat::Errno;

use crate::health::{Fault, Verdict, VerdictKind};

/// State of a path: the sum of its verdicts. The module's table defines the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// No verdict yet.
    #[default]
    Pending,
    /// Works.
    Up,
    /// Works, but fails too often or answers too slowly.
    Marginal,
    /// Serves no reads, by the target's design.
    Standby,
    /// Does not work.
    Down,
    /// Is not checked, on command.
    Paused,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Up,
        State::Marginal,
        State::Standby,
        State::Down,
        State::Paused,
    ];

    /// The name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Up => "up",
            State::Marginal => "marginal",
            State::Standby => "standby",
            State::Down => "down",
            State::Paused => "paused",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why a path is in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// No verdict yet.
    #[default]
    NotChecked,
    /// A verdict of this kind, with its errno.
    Verdict(VerdictKind, Option<Errno>),
    /// Too many of the last verdicts were bad.
    ErrorRate,
    /// Went down too often recently.
    Flapping,
    /// Answers much more slowly than its peers.
    Slow,
    /// Has one of the impairments above, and no peer of it is up.
    LastUsable,
    /// A command paused or resumed the path.
    Command,
    /// A stuck read completed after all. Cause of an event, never of a state.
    LateAnswer,
    /// The name of the path leads to something else than the watched device. Cause of an event,
    /// never of a state.
    LeadsElsewhere,
}

impl Cause {
    /// The name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::NotChecked => "not_checked",
            Cause::Verdict(VerdictKind::Failed, Some(errno)) => Fault::from(errno).name(),
            Cause::Verdict(kind, _) => kind.name(),
            Cause::ErrorRate => "error_rate",
            Cause::Flapping => "flapping",
            Cause::Slow => "slow",
            Cause::LastUsable => "last_usable",
            Cause::Command => "command",
            Cause::LateAnswer => "late_answer",
            Cause::LeadsElsewhere => "leads_elsewhere",
        }
    }

    /// The errno of the verdict.
    pub fn errno(self) -> Option<Errno> {
        match self {
            Cause::Verdict(_, errno) => errno,
            _ => None,
        }
    }
}

impl From<&Verdict> for Cause {
    fn from(verdict: &Verdict) -> Cause {
        Cause::Verdict(verdict.kind(), verdict.errno())
    }
}
