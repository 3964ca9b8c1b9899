//! What happens on events: programs are run, failed paths are taken out of multipath maps.
//!
//! Events come from the event log and the state of all paths from the engine; the results go to
//! programs and to device-mapper. Nothing waits for an action: events are queued, and dropped from
//! the queue if there are too many (they stay in the history). No worker takes part.
//!
//! Not here: the configuration of the actions (`daemon::config`), and the file that remembers which
//! paths were taken out (`daemon::events`).

mod failed_path_log;
mod hooks;
mod maps;
mod rules;
mod store_notes;

use std::sync::Arc;

use pathpulse::Monitor;

use crate::api::EventDocument;
use crate::daemon::config::Configuration;
use crate::daemon::events::{EventCounters, EventStore, FailedPaths};
use hooks::Hooks;
use maps::Maps;

/// A handle of the threads that act. Clones are handles of the same threads.
#[derive(Clone)]
pub(crate) struct Actions {
    hooks: Hooks,
    maps: Maps,
}

impl Actions {
    pub(crate) fn new(
        monitor: &Arc<Monitor>,
        configuration: &Configuration,
        counters: &Arc<EventCounters>,
        store: &EventStore,
    ) -> Actions {
        let actions = Actions {
            hooks: Hooks::new(Arc::clone(counters)),
            maps: Maps::new(Arc::clone(monitor), store.clone()),
        };
        actions.set_configuration(configuration);
        actions
    }

    /// Acts by this configuration from now on.
    pub(crate) fn set_configuration(&self, configuration: &Configuration) {
        self.hooks.set(configuration.hooks());
        self.maps.set(configuration.multipath());
    }

    /// Restores what an earlier daemon did and did not undo.
    pub(crate) fn restore(&self, failed_paths: Vec<FailedPaths>) {
        self.maps.restore(failed_paths);
    }

    /// An event happened.
    pub(crate) fn notify(&self, event: &EventDocument) {
        self.hooks.notify(event);
        self.maps.notify();
    }
}
