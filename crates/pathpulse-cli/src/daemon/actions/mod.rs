//! What is done when something happens: programs are run, paths are taken out of multipath maps.
//!
//! Nobody waits for any of it: events are handed over, and lost if there are too many (they are in the
//! history all the same). No worker has a part in it.

mod failed_path_log;
mod hooks;
mod maps;
mod notes;
mod rules;

use std::sync::Arc;

use pathpulse::Monitor;

use crate::api::document::EventDocument;
use crate::daemon::config::Configuration;
use crate::daemon::events::store::Keeper;
use crate::daemon::events::store_file::Taken;
use crate::daemon::metrics::daemon::Tally;
use hooks::Hooks;
use maps::Maps;

/// The way to those who act. Clones are the same.
#[derive(Clone)]
pub(crate) struct Actions {
    hooks: Hooks,
    maps: Maps,
}

impl Actions {
    pub(crate) fn new(
        monitor: &Arc<Monitor>,
        configuration: &Configuration,
        tally: &Arc<Tally>,
        state: &Keeper,
    ) -> Actions {
        let actions = Actions {
            hooks: Hooks::new(Arc::clone(tally)),
            maps: Maps::new(Arc::clone(monitor), state.clone()),
        };
        actions.follow(configuration);
        actions
    }

    /// Does from now on what this configuration says.
    pub(crate) fn follow(&self, configuration: &Configuration) {
        self.hooks.set(configuration.hooks());
        self.maps.set(configuration.multipath());
    }

    /// Takes in what was done before this daemon's start, and is not undone.
    pub(crate) fn recall(&self, taken: Vec<Taken>) {
        self.maps.recall(taken);
    }

    /// Something happened.
    pub(crate) fn tell(&self, event: &EventDocument) {
        self.hooks.tell(event);
        self.maps.tell();
    }
}
