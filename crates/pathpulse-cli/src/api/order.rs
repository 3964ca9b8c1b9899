//! How paths are shown to people: the state to show, grouped, the worst first.

use std::collections::HashMap;

use super::document::PathDocument;
use super::state::PathState;
use crate::human;

impl PathDocument {
    /// The state for people. If the verdict is late, the state is no longer known and shown as
    /// overdue; a path that was down stays down.
    pub(crate) fn shown_state(&self) -> &PathState {
        if self.overdue && self.state != PathState::Down {
            &PathState::Overdue
        } else {
            &self.state
        }
    }

    /// The cause for people. If the verdict is late: what was known, and how long ago.
    pub(crate) fn shown_cause(&self) -> String {
        if !self.overdue {
            return self.cause.to_string();
        }
        let what = match self.shown_state() {
            PathState::Overdue => self.state.as_str(),
            _ => self.cause.as_str(),
        };
        match self.verdict_age_ms {
            Some(ms) => format!("{what} {} ago", human::age(ms / 1_000)),
            None => "never checked".to_owned(),
        }
    }

    /// The position of its state in [`PathState::FROM_WORST`]; 0 is the worst. A state that this
    /// version does not know counts as the worst.
    pub(crate) fn badness(&self) -> usize {
        let mut states = PathState::FROM_WORST.iter();
        states
            .position(|state| state == self.shown_state())
            .unwrap_or(0)
    }

    /// Whether storage can be used through this path, as far as is known now.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.shown_state(), PathState::Up | PathState::Marginal)
    }

    /// Whether its names, group, state or cause contain a text, which is in lower case.
    pub(crate) fn matches_filter(&self, filter: &str) -> bool {
        let texts = [
            Some(self.path.as_str()),
            self.group.as_deref(),
            self.device.as_deref(),
            Some(self.state.as_str()),
            Some(self.cause.as_str()),
            Some(self.shown_state().as_str()),
        ];
        let mut texts = texts.into_iter().flatten();
        filter.is_empty() || texts.any(|text| text.to_lowercase().contains(filter))
    }
}

/// How many paths are in each state, the worst state first; states without a path are left out.
pub(crate) fn count_states(paths: &[PathDocument]) -> Vec<(PathState, usize)> {
    let in_state = |state: PathState| {
        let count = paths
            .iter()
            .filter(|path| path.shown_state() == &state)
            .count();
        (state, count)
    };
    let counts = PathState::FROM_WORST.into_iter().map(in_state);
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The indexes of paths by group, in the order in which groups appear. Paths without a group come
/// last.
pub(crate) fn by_group(paths: &[PathDocument]) -> Vec<(Option<&str>, Vec<usize>)> {
    let mut groups: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
    let mut of_name = HashMap::new();
    for (place, path) in paths.iter().enumerate() {
        let name = path.group.as_deref();
        let group = *of_name.entry(name).or_insert(groups.len());
        if group == groups.len() {
            groups.push((name, Vec::new()));
        }
        groups[group].1.push(place);
    }
    groups.sort_by_key(|(name, _)| name.is_none());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::{overdue, path};

    #[test]
    fn what_is_not_known_any_more_is_not_shown_as_it_was() {
        let late = overdue("/dev/sda", "up");
        assert_eq!(late.shown_state(), &PathState::Overdue);
        assert_eq!(late.shown_cause(), "up 1m00s ago");
        assert!(!late.is_usable() && late.matches_filter("overdue") && late.matches_filter("up"));
        // That one is worse, and stays so.
        let down = overdue("/dev/sdb", "down");
        assert_eq!(down.shown_state(), &PathState::Down);
        assert_eq!(down.shown_cause(), "timed_out 1m00s ago");
        let marginal = path("/dev/sdc", "marginal");
        assert!(down.badness() < late.badness() && late.badness() < marginal.badness());
        assert_eq!(
            count_states(&[late, down, marginal]),
            [
                (PathState::Down, 1),
                (PathState::Overdue, 1),
                (PathState::Marginal, 1)
            ]
        );
    }
}
