//! The optional features of io_uring: which are in use, and the benefit of each.

use pathpulse::RingFeatures;
use serde::Serialize;

/// The ring of a worker.
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
    /// The first Linux release that has it; distributions backport.
    pub(super) since: &'static str,
    pub(super) brings: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FeatureState {
    InUse,
    Missing,
    /// A better feature is in use.
    NotNeeded,
}

impl FeatureState {
    pub(super) fn text(self) -> &'static str {
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
                "completions run only when they are collected",
            ),
            (
                "coop_taskrun",
                coop,
                "5.19",
                "completions do not interrupt running threads",
            ),
            (
                "registered_ring_fd",
                state(ring.registered_ring_fd),
                "5.18",
                "cheaper calls, without a lookup of the ring",
            ),
            (
                "registered_files",
                state(ring.registered_files),
                "6.13",
                "cheaper reads, no descriptor for each path",
            ),
            (
                "registered_buffers",
                state(ring.registered_buffers),
                "5.19",
                "memory is pinned once, not for each read",
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
                "idle waiting does not count as iowait",
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
    fn coop_taskrun_is_missing_only_without_defer_taskrun() {
        let mut ring = RingFeatures::default();
        assert_eq!(state_of(&ring, "coop_taskrun"), FeatureState::Missing);
        ring.coop_taskrun = true;
        assert_eq!(state_of(&ring, "coop_taskrun"), FeatureState::InUse);
        assert_eq!(state_of(&ring, "defer_taskrun"), FeatureState::Missing);
        (ring.defer_taskrun, ring.coop_taskrun) = (true, false);
        assert_eq!(state_of(&ring, "coop_taskrun"), FeatureState::NotNeeded);
    }
}
