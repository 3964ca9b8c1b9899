//! The metrics for Prometheus, computed when they are asked for.
//!
//! Here: names, help texts and labels, and the counters of HTTP clients. Not here: counting
//! anything else. The values come from the engine's status, the watchlist and the daemon's
//! counters; the text goes to `GET /metrics`.

mod clients;
mod daemon;
mod paths;
mod workers;
mod writer;

pub(crate) use clients::ClientCounters;
pub(crate) use daemon::MetricsSource;
pub(crate) use writer::{Metrics, answer};
