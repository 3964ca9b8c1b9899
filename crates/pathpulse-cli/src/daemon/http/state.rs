//! What the handlers compute their answers from.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::FromRef;
use pathpulse::Monitor;

use crate::daemon::events::{EventCounters, EventHistory};
use crate::daemon::metrics::{ClientCounters, Metrics, MetricsSource};
use crate::daemon::process::{Predecessors, Stopper};
use crate::daemon::watchlist::Watchlist;

/// The state that all handlers share.
#[derive(Clone)]
pub(crate) struct HttpState {
    pub(super) monitor: Arc<Monitor>,
    pub(super) history: Arc<EventHistory>,
    pub(super) watchlist: Watchlist,
    pub(super) stopper: Stopper,
    metrics: Metrics,
    pub(super) clients: Arc<ClientCounters>,
    pub(super) predecessors: Predecessors,
}

impl HttpState {
    /// The state of a server without clients.
    pub(crate) fn new(
        monitor: &Arc<Monitor>,
        history: &Arc<EventHistory>,
        watchlist: &Watchlist,
        stopper: &Stopper,
        (counters, predecessors): (Arc<EventCounters>, Predecessors),
    ) -> HttpState {
        let clients = Arc::<ClientCounters>::default();
        let metrics = Metrics::new(MetricsSource {
            monitor: Arc::clone(monitor),
            watchlist: watchlist.clone(),
            clients: Arc::clone(&clients),
            counters,
            predecessors: predecessors.clone(),
            started: SystemTime::now(),
        });
        HttpState {
            monitor: Arc::clone(monitor),
            history: Arc::clone(history),
            watchlist: watchlist.clone(),
            stopper: stopper.clone(),
            metrics,
            clients,
            predecessors,
        }
    }
}

impl FromRef<HttpState> for Metrics {
    fn from_ref(state: &HttpState) -> Metrics {
        state.metrics.clone()
    }
}

impl FromRef<HttpState> for Arc<Monitor> {
    fn from_ref(state: &HttpState) -> Arc<Monitor> {
        Arc::clone(&state.monitor)
    }
}
