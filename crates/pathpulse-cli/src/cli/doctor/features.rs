//! What io_uring has to offer beyond what is needed: what is in use, and what the rest would bring.

use pathpulse::RingFeatures;
use serde::Serialize;

/// The ring as checks would use it.
#[derive(Debug, Serialize)]
pub(super) struct RingReport {
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    pub(super) features: Vec<Feature>,
}

/// One optional feature.
#[derive(Debug, Serialize)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) state: FeatureState,
    /// The Linux that has it first; distributions backport.
    pub(super) since: &'static str,
    pub(super) brings: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FeatureState {
    InUse,
    Missing,
    /// A better one is in use.
    NotNeeded,
}

impl FeatureState {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            FeatureState::InUse => "in use",
            FeatureState::Missing => "missing",
            FeatureState::NotNeeded => "not needed",
        }
    }
}

impl RingReport {
    pub(super) fn new(ring: &RingFeatures) -> RingReport {
        let state = |in_use: bool| match in_use {
            true => FeatureState::InUse,
            false => FeatureState::Missing,
        };
        let coop = match ring.defer_taskrun {
            true => FeatureState::NotNeeded,
            false => state(ring.coop_taskrun),
        };
        let list = [
            (
                "defer_taskrun",
                state(ring.defer_taskrun),
                "6.1",
                "completions wait until asked for",
            ),
            (
                "coop_taskrun",
                coop,
                "5.19",
                "completions interrupt no running thread",
            ),
            (
                "registered_ring_fd",
                state(ring.registered_ring_fd),
                "5.18",
                "cheaper calls: no look-up of the ring",
            ),
            (
                "registered_files",
                state(ring.registered_files),
                "6.13",
                "no descriptor per path, cheaper reads",
            ),
            (
                "registered_buffers",
                state(ring.registered_buffers),
                "5.19",
                "memory pinned once, not for each read",
            ),
            (
                "min_wait",
                state(ring.min_wait),
                "6.12",
                "fewer wake-ups when many checks end",
            ),
            (
                "no_iowait",
                state(ring.no_iowait),
                "6.15",
                "idle waiting is not shown as iowait",
            ),
        ];
        let features = list.map(|(name, state, since, brings)| Feature {
            name,
            state,
            since,
            brings,
        });
        RingReport {
            sq_entries: ring.sq_entries,
            cq_entries: ring.cq_entries,
            features: features.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(ring: &RingFeatures, name: &str) -> FeatureState {
        let report = RingReport::new(ring);
        let found = report.features.iter().find(|feature| feature.name == name);
        found.expect("listed").state
    }

    #[test]
    fn the_second_best_is_missed_only_without_the_best() {
        let mut ring = RingFeatures::default();
        assert_eq!(state_of(&ring, "coop_taskrun"), FeatureState::Missing);
        ring.coop_taskrun = true;
        assert_eq!(state_of(&ring, "coop_taskrun"), FeatureState::InUse);
        assert_eq!(state_of(&ring, "defer_taskrun"), FeatureState::Missing);
        (ring.defer_taskrun, ring.coop_taskrun) = (true, false);
        assert_eq!(state_of(&ring, "coop_taskrun"), FeatureState::NotNeeded);
    }
}
