//! The order in which people look at paths: by groups, and the worst first.

use std::collections::HashMap;

use super::document::PathDocument;
use crate::human;

/// What a path is shown as whose verdict is late, whatever its state was.
pub(crate) const OVERDUE: &str = "overdue";
/// States from the worst to the best, as they are shown.
pub(crate) const STATES: [&str; 7] = [
    "down", OVERDUE, "marginal", "pending", "standby", "paused", "up",
];

impl PathDocument {
    /// Its state for people: that of a path whose verdict is late is not known any more. What was down
    /// when it was known last stays so.
    pub(crate) fn shown_state(&self) -> &str {
        if self.overdue && self.state != "down" {
            OVERDUE
        } else {
            &self.state
        }
    }

    /// The cause for people: of a path whose verdict is late, how old that is and what it was.
    pub(crate) fn shown_cause(&self) -> String {
        if !self.overdue {
            return self.cause.clone();
        }
        let what = match self.shown_state() {
            OVERDUE => &self.state,
            _ => &self.cause,
        };
        match self.verdict_age_ms {
            Some(ms) => format!("{what} {} ago", human::age(ms / 1_000)),
            None => "never checked".to_owned(),
        }
    }

    /// The place of its state in [`STATES`]; 0 is the worst.
    pub(crate) fn badness(&self) -> usize {
        let place = STATES.iter().position(|state| *state == self.shown_state());
        place.unwrap_or(0)
    }

    /// Whether storage can be used through it, as far as that is known now.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.shown_state(), "up" | "marginal")
    }

    /// Whether a text, in lower case, is in what people know it by, or in what is said of it.
    pub(crate) fn fits(&self, filter: &str) -> bool {
        let known = [Some(&self.path), self.group.as_ref(), self.device.as_ref()];
        let said = [Some(&self.state), Some(&self.cause)];
        let mut all = known.into_iter().chain(said).flatten();
        filter.is_empty()
            || all.any(|text| text.to_lowercase().contains(filter))
            || self.shown_state().contains(filter)
    }
}

/// How many paths are in each state that some are in, the worst first.
pub(crate) fn count_states(paths: &[PathDocument]) -> Vec<(&'static str, usize)> {
    let in_state = |state: &&'static str| {
        let count = paths
            .iter()
            .filter(|path| path.shown_state() == *state)
            .count();
        (*state, count)
    };
    let counts = STATES.iter().map(in_state);
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The places of paths by their group, in the order in which groups appear; those of none at the end.
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
        assert_eq!(late.shown_state(), OVERDUE);
        assert_eq!(late.shown_cause(), "up 1m00s ago");
        assert!(!late.is_usable() && late.fits("overdue") && late.fits("up"));
        // That one is worse, and stays so.
        let down = overdue("/dev/sdb", "down");
        assert_eq!(down.shown_state(), "down");
        assert_eq!(down.shown_cause(), "timed_out 1m00s ago");
        let marginal = path("/dev/sdc", "marginal");
        assert!(down.badness() < late.badness() && late.badness() < marginal.badness());
        assert_eq!(
            count_states(&[late, down, marginal]),
            [("down", 1), (OVERDUE, 1), ("marginal", 1)]
        );
    }
}
