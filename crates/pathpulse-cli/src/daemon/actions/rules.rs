//! Which paths are taken out of a multipath map, and which are given back (pure).
//!
//! | a leg is | and | then |
//! |---|---|---|
//! | down, active in the map | another leg works | it is taken out |
//! | down, active in the map | no other leg works | it stays: an array that pauses all its paths for a while must not be turned into an outage by us |
//! | up or marginal, taken out by us | | it is given back |
//! | down, taken out by us | no leg of the map is active, or will be | it is given back: the map has nothing to lose |
//!
//! A leg works if it is up or marginal and active in the map. What others took out stays theirs.

use std::fmt;

use pathpulse::State;

/// A leg of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// Its device number.
    pub(super) device: (u32, u32),
    pub(super) state: State,
    /// Taken out by us.
    pub(super) taken: bool,
    /// The map uses it.
    pub(super) active: bool,
}

impl Leg {
    fn is_good(&self) -> bool {
        matches!(self.state, State::Up | State::Marginal)
    }
}

/// What is to be done with a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    TakeOut,
    GiveBack,
}

impl fmt::Display for Deed {
    /// As the map understands it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deed::TakeOut => "fail_path",
            Deed::GiveBack => "reinstate_path",
        })
    }
}

/// What is to be done with the legs of one map. `last_too`: take out the last one that works, too.
pub(super) fn decide(legs: &[Leg], last_too: bool) -> Vec<((u32, u32), Deed)> {
    let works = legs
        .iter()
        .any(|leg| leg.is_good() && (leg.active || leg.taken));
    let something_left = legs.iter().any(|leg| leg.active) || works;
    let deed = |leg: &Leg| {
        if leg.taken {
            return (leg.is_good() || !(something_left || last_too)).then_some(Deed::GiveBack);
        }
        let is_out_of_order = leg.state == State::Down && leg.active;
        (is_out_of_order && (works || last_too)).then_some(Deed::TakeOut)
    };
    let deeds = legs.iter().filter_map(|leg| Some((leg.device, deed(leg)?)));
    deeds.collect()
}

/// The legs that a multipath map says it uses, or does not, in its status: each is named by its device
/// number, followed by `A` or `F`.
pub(super) fn legs_of_status(status: &str) -> Vec<((u32, u32), bool)> {
    let words: Vec<&str> = status.split_ascii_whitespace().collect();
    let leg = |pair: &[&str]| {
        let (major, minor) = pair[0].split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        match pair[1] {
            "A" => Some((device, true)),
            "F" => Some((device, false)),
            _ => None,
        }
    };
    words.windows(2).filter_map(leg).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] = State::ALL;

    /// Every map of three legs, in every condition.
    fn all_maps() -> impl Iterator<Item = [Leg; 3]> {
        let conditions = STATES.len() * 3;
        (0..conditions.pow(3)).map(move |number| {
            [0, 1, 2].map(|leg| {
                let condition = number / conditions.pow(leg) % conditions;
                let (taken, active) = [(false, true), (false, false), (true, false)][condition % 3];
                Leg {
                    device: (8, leg * 16),
                    state: STATES[condition / 3],
                    taken,
                    active,
                }
            })
        })
    }

    /// The map after the deeds.
    fn after(legs: &[Leg; 3], deeds: &[((u32, u32), Deed)]) -> [Leg; 3] {
        legs.map(
            |leg| match deeds.iter().find(|(device, _)| *device == leg.device) {
                None => leg,
                Some((_, deed)) => Leg {
                    taken: *deed == Deed::TakeOut,
                    active: *deed == Deed::GiveBack,
                    ..leg
                },
            },
        )
    }

    #[test]
    fn the_last_leg_that_works_or_might_is_never_taken_out() {
        let mut taken_out = 0;
        for legs in all_maps() {
            let deeds = decide(&legs, false);
            let then = after(&legs, &deeds);
            let takes = deeds.iter().any(|(_, deed)| *deed == Deed::TakeOut);
            if takes {
                taken_out += 1;
                let works = then.iter().any(|leg| leg.active && leg.is_good());
                assert!(works, "{legs:?} {deeds:?}");
            }
            let had = legs.iter().any(|leg| leg.active);
            let has = then.iter().any(|leg| leg.active);
            let ours = legs.iter().any(|leg| leg.taken);
            assert_eq!(has, had || ours, "{legs:?} {deeds:?}");
        }
        assert!(taken_out > 100, "{taken_out}");
    }

    #[test]
    fn only_what_we_took_is_given_back_and_only_what_is_down_is_taken() {
        for (legs, last_too) in all_maps().flat_map(|legs| [(legs, false), (legs, true)]) {
            for (device, deed) in decide(&legs, last_too) {
                let leg = legs.iter().find(|leg| leg.device == device).expect("a leg");
                match deed {
                    Deed::GiveBack => assert!(leg.taken),
                    Deed::TakeOut => assert!(!leg.taken && leg.active && leg.state == State::Down),
                }
            }
        }
    }

    #[test]
    fn what_was_decided_needs_no_second_word() {
        for (legs, last_too) in all_maps().flat_map(|legs| [(legs, false), (legs, true)]) {
            let then = after(&legs, &decide(&legs, last_too));
            assert_eq!(decide(&then, last_too), [], "{legs:?}");
            // All that work are in use, but for what others took out.
            for leg in then {
                assert!(!(leg.taken && leg.is_good()), "{legs:?}");
            }
        }
    }

    #[test]
    fn all_that_are_down_are_taken_if_that_is_said() {
        for legs in all_maps() {
            let then = after(&legs, &decide(&legs, true));
            let left = then
                .iter()
                .any(|leg| leg.state == State::Down && leg.active);
            assert!(!left, "{legs:?}");
        }
    }

    #[test]
    fn the_status_of_a_map_names_its_legs() {
        let status = "2 0 1 0 2 1 A 0 1 0 8:16 F 3 E 0 1 0 65:32 A 0\n";
        let expected = vec![((8, 16), false), ((65, 32), true)];
        assert_eq!(legs_of_status(status), expected);
        assert_eq!(legs_of_status("0 1024 linear 8:0 0 x:y A 1:2"), []);
    }
}
