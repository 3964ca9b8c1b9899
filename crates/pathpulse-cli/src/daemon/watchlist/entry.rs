//! One entry of the watchlist.

use std::path::Path;

use pathpulse::{Monitor, PathId, PathSpec};

use super::missing::MissingDisk;
use super::open_retry::OpenRetry;
use crate::daemon::config::Configuration;

/// Where a path on the list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The command line or the file names it.
    Configured,
    /// The command `add` added it.
    Added,
    /// Discovery found it; with the kernel's name of its disk.
    Discovered(String),
}

/// Whether a path is open.
pub(super) enum OpenState {
    Unopened(OpenRetry),
    Open(PathId),
}

/// A path on the list.
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// What the engine is told when the path is opened.
    pub(super) spec: PathSpec,
    pub(super) stage: OpenState,
    /// The disk, if it is gone and something still uses it.
    pub(super) missing: Option<MissingDisk>,
    /// Position in the order in which paths entered the list.
    pub(super) order: u64,
    /// The generation of the current open; 0 before the first one. Results of other generations
    /// are not for this entry.
    pub(super) open_generation: u64,
}

impl Entry {
    pub(super) fn is_discovered(&self) -> bool {
        matches!(self.origin, Origin::Discovered(_))
    }

    /// The open path that leads to the same device.
    pub(super) fn is_same_as(&self) -> Option<&Path> {
        match &self.stage {
            OpenState::Unopened(retry) => retry.is_same_as(),
            OpenState::Open(_) => None,
        }
    }

    /// Applies the settings of the configuration; returns whether they are new. The group that
    /// decides about them may be known to the kernel only.
    pub(super) fn apply_settings(
        &mut self,
        name: &Path,
        configuration: &Configuration,
        monitor: &Monitor,
    ) -> bool {
        let configured = self.spec.group.clone();
        let group = match self.stage {
            OpenState::Open(id) if configuration.has_group_sections() => configured.or_else(|| {
                let info = monitor.info(id)?;
                info.group().map(str::to_owned)
            }),
            _ => configured,
        };
        let settings = Some(configuration.settings_of(name, group.as_deref()));
        if self.spec.settings == settings {
            return false;
        }
        self.spec.settings = settings;
        if let (OpenState::Open(id), Some(settings)) = (&self.stage, settings) {
            monitor.change(*id, settings);
        }
        true
    }
}
