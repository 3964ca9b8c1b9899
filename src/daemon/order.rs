//! The order in which people look at paths: by groups, and the worst first.

use std::collections::HashMap;

use super::document::PathDocument;

/// States from the worst to the best.
pub(crate) const STATES: [&str; 6] = ["down", "marginal", "pending", "standby", "paused", "up"];

impl PathDocument {
    /// The place of its state in [`STATES`]; 0 is the worst.
    pub(crate) fn badness(&self) -> usize {
        let place = STATES.iter().position(|state| *state == self.state);
        place.unwrap_or(0)
    }

    /// Whether storage can be used through it.
    pub(crate) fn is_usable(&self) -> bool {
        self.state == "up" || self.state == "marginal"
    }

    /// Whether a text, in lower case, is in what people know it by, or in what is said of it.
    pub(crate) fn fits(&self, filter: &str) -> bool {
        let known = [Some(&self.path), self.group.as_ref(), self.device.as_ref()];
        let said = [Some(&self.state), Some(&self.cause)];
        let mut all = known.into_iter().chain(said).flatten();
        filter.is_empty() || all.any(|text| text.to_lowercase().contains(filter))
    }
}

/// How many paths are in each state that some are in, the worst first.
pub(crate) fn count_states(paths: &[PathDocument]) -> Vec<(&'static str, usize)> {
    let in_state = |state: &&'static str| {
        let count = paths.iter().filter(|path| path.state == *state).count();
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
