//! Which paths are taken out of a multipath map, and which are reinstated (pure).
//!
//! | a path is | and | then |
//! |---|---|---|
//! | down, active in the map | another path works | it is taken out |
//! | down, active in the map | no other path works | it stays: an array that pauses all its paths for a while must not become an outage because of us |
//! | up or marginal, taken out by us | | it is reinstated |
//! | down, taken out by us | no path of the map is active, or will be | it is reinstated: the map has nothing to lose |
//!
//! A path works if it is up or marginal and active in the map. Paths that others took out are left
//! to them.

use std::fmt;

use pathpulse::State;

/// A path of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapPath {
    /// Its device number.
    pub(super) device: (u32, u32),
    pub(super) state: State,
    /// Taken out by us.
    pub(super) taken: bool,
    /// The map uses it.
    pub(super) active: bool,
}

impl MapPath {
    fn is_good(&self) -> bool {
        matches!(self.state, State::Up | State::Marginal)
    }
}

/// What to do with a path of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapAction {
    Fail,
    Reinstate,
}

impl fmt::Display for MapAction {
    /// The message to the map, without the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapAction::Fail => "fail_path",
            MapAction::Reinstate => "reinstate_path",
        })
    }
}

/// Decides about the paths of one map. `last_too`: the last path that works is taken out, too.
pub(super) fn decide(paths: &[MapPath], last_too: bool) -> Vec<((u32, u32), MapAction)> {
    let works = paths
        .iter()
        .any(|path| path.is_good() && (path.active || path.taken));
    let something_left = paths.iter().any(|path| path.active) || works;
    let action = |path: &MapPath| {
        if path.taken {
            return (path.is_good() || !(something_left || last_too))
                .then_some(MapAction::Reinstate);
        }
        let is_failed = path.state == State::Down && path.active;
        (is_failed && (works || last_too)).then_some(MapAction::Fail)
    };
    let actions = paths
        .iter()
        .filter_map(|path| Some((path.device, action(path)?)));
    actions.collect()
}

/// The paths in the status of a multipath map, with whether the map uses them. The status names a
/// path by its device number, followed by `A` (active) or `F` (failed).
pub(super) fn paths_in_status(status: &str) -> Vec<((u32, u32), bool)> {
    let words: Vec<&str> = status.split_ascii_whitespace().collect();
    let path = |pair: &[&str]| {
        let (major, minor) = pair[0].split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        match pair[1] {
            "A" => Some((device, true)),
            "F" => Some((device, false)),
            _ => None,
        }
    };
    words.windows(2).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] = State::ALL;

    /// Every map of three paths, in every condition.
    fn all_maps() -> impl Iterator<Item = [MapPath; 3]> {
        let conditions = STATES.len() * 3;
        (0..conditions.pow(3)).map(move |number| {
            [0, 1, 2].map(|path| {
                let condition = number / conditions.pow(path) % conditions;
                let (taken, active) = [(false, true), (false, false), (true, false)][condition % 3];
                MapPath {
                    device: (8, path * 16),
                    state: STATES[condition / 3],
                    taken,
                    active,
                }
            })
        })
    }

    /// The map after the actions.
    fn after(paths: &[MapPath; 3], actions: &[((u32, u32), MapAction)]) -> [MapPath; 3] {
        paths.map(
            |path| match actions.iter().find(|(device, _)| *device == path.device) {
                None => path,
                Some((_, action)) => MapPath {
                    taken: *action == MapAction::Fail,
                    active: *action == MapAction::Reinstate,
                    ..path
                },
            },
        )
    }

    #[test]
    fn the_last_path_that_works_or_might_is_never_taken_out() {
        let mut taken_out = 0;
        for paths in all_maps() {
            let actions = decide(&paths, false);
            let then = after(&paths, &actions);
            let takes = actions.iter().any(|(_, action)| *action == MapAction::Fail);
            if takes {
                taken_out += 1;
                let works = then.iter().any(|path| path.active && path.is_good());
                assert!(works, "{paths:?} {actions:?}");
            }
            let had = paths.iter().any(|path| path.active);
            let has = then.iter().any(|path| path.active);
            let ours = paths.iter().any(|path| path.taken);
            assert_eq!(has, had || ours, "{paths:?} {actions:?}");
        }
        assert!(taken_out > 100, "{taken_out}");
    }

    #[test]
    fn only_what_we_took_is_given_back_and_only_what_is_down_is_taken() {
        for (paths, last_too) in all_maps().flat_map(|paths| [(paths, false), (paths, true)]) {
            for (device, action) in decide(&paths, last_too) {
                let path = paths
                    .iter()
                    .find(|path| path.device == device)
                    .expect("a path");
                match action {
                    MapAction::Reinstate => assert!(path.taken),
                    MapAction::Fail => {
                        assert!(!path.taken && path.active && path.state == State::Down);
                    }
                }
            }
        }
    }

    #[test]
    fn a_second_decision_changes_nothing() {
        for (paths, last_too) in all_maps().flat_map(|paths| [(paths, false), (paths, true)]) {
            let then = after(&paths, &decide(&paths, last_too));
            assert_eq!(decide(&then, last_too), [], "{paths:?}");
            // All paths that work are in use, except those that others took out.
            for path in then {
                assert!(!(path.taken && path.is_good()), "{paths:?}");
            }
        }
    }

    #[test]
    fn all_that_are_down_are_taken_if_configured() {
        for paths in all_maps() {
            let then = after(&paths, &decide(&paths, true));
            let left = then
                .iter()
                .any(|path| path.state == State::Down && path.active);
            assert!(!left, "{paths:?}");
        }
    }

    #[test]
    fn the_status_of_a_map_names_its_paths() {
        let status = "2 0 1 0 2 1 A 0 1 0 8:16 F 3 E 0 1 0 65:32 A 0\n";
        let expected = vec![((8, 16), false), ((65, 32), true)];
        assert_eq!(paths_in_status(status), expected);
        assert_eq!(paths_in_status("0 1024 linear 8:0 0 x:y A 1:2"), []);
    }
}
