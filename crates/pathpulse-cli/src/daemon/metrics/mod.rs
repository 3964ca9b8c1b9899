//! The metrics for Prometheus, computed when they are asked for.
//!
//! Here: names, help texts and labels. Not here: counting. The values come from the engine's
//! status, the watchlist and the daemon's counters; the text goes to `GET /metrics`.

pub(crate) mod daemon;
mod paths;
mod workers;
pub(crate) mod writer;
