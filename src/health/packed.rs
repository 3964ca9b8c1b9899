//! State, cause and errno of a path in one machine word, which is written and read at once.

use pathpulse_kernel_compat::Errno;

use crate::health::{Cause, State, VerdictKind};

/// Packs state, cause and errno into one word: bits 0-7, 8-15 and 16-31.
pub(crate) fn pack(state: State, cause: Cause) -> u64 {
    const VERDICTS: u64 = VerdictKind::ALL.len() as u64;
    let cause_bits = match cause {
        Cause::Verdict(kind, _) => kind as u64,
        Cause::NotChecked => VERDICTS,
        Cause::ErrorRate => VERDICTS + 1,
        Cause::Flapping => VERDICTS + 2,
        Cause::Command => VERDICTS + 3,
        Cause::LateAnswer => VERDICTS + 4,
        Cause::Slow => VERDICTS + 5,
        Cause::LastUsable => VERDICTS + 6,
        Cause::LeadsElsewhere => VERDICTS + 7,
    };
    let errno = cause
        .errno()
        .map_or(0, |errno| u64::from(errno.raw().unsigned_abs()));
    state as u64 | cause_bits << 8 | errno << 16
}

pub(crate) fn unpack(word: u64) -> (State, Cause) {
    let byte = |shift| usize::from((word >> shift) as u8);
    let errno = match i32::from((word >> 16) as u16) {
        0 => None,
        raw => Some(Errno::from_raw(raw)),
    };
    let state = State::ALL.get(byte(0)).copied().unwrap_or_default();
    let cause = match VerdictKind::ALL.get(byte(8)) {
        Some(kind) => Cause::Verdict(*kind, errno),
        None => match byte(8) - VerdictKind::ALL.len() {
            1 => Cause::ErrorRate,
            2 => Cause::Flapping,
            3 => Cause::Command,
            4 => Cause::LateAnswer,
            5 => Cause::Slow,
            6 => Cause::LastUsable,
            7 => Cause::LeadsElsewhere,
            _ => Cause::NotChecked,
        },
    };
    (state, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_cause_survives_packing() {
        let verdicts = VerdictKind::ALL.map(|kind| Cause::Verdict(kind, None));
        let others = [
            Cause::NotChecked,
            Cause::ErrorRate,
            Cause::Flapping,
            Cause::Command,
            Cause::LateAnswer,
            Cause::Slow,
            Cause::LastUsable,
            Cause::LeadsElsewhere,
            Cause::Verdict(VerdictKind::Failed, Some(Errno::EREMOTEIO)),
        ];
        for state in State::ALL {
            for cause in verdicts.into_iter().chain(others) {
                assert_eq!(unpack(pack(state, cause)), (state, cause));
            }
        }
    }
}
